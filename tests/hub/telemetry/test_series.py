"""Series: the right table for a span, never too many points, and numbers that are those of the samples."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.errors import Invalid
from hub.telemetry import export, series
from hub.telemetry.tiers import HOURS, MINUTES, RAW, choose

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("span", "until_ago", "tier", "bucket"),
    [
        (timedelta(minutes=15), timedelta(), RAW, timedelta(milliseconds=901)),
        (timedelta(hours=1), timedelta(), RAW, timedelta(milliseconds=3604)),
        (timedelta(hours=24), timedelta(), MINUTES, timedelta(minutes=2)),
        (timedelta(days=7), timedelta(), MINUTES, timedelta(minutes=11)),
        (timedelta(days=90), timedelta(), HOURS, timedelta(hours=3)),
        (timedelta(days=1800), timedelta(), HOURS, timedelta(hours=44)),
        (timedelta(minutes=15), timedelta(days=30), MINUTES, timedelta(minutes=1)),
        (timedelta(minutes=15), timedelta(days=300), HOURS, timedelta(hours=1)),
    ],
)
def test_the_finest_table_that_reaches_back_and_is_no_finer_than_shown(span, until_ago, tier, bucket):
    until = NOW - until_ago
    assert choose(until - span, until, 1000, NOW) == (tier, bucket)


@given(
    st.timedeltas(timedelta(microseconds=1), timedelta(days=3660)),
    st.timedeltas(timedelta(), timedelta(days=3000)),
    st.integers(2, 1000),
)
def test_never_more_points_than_asked_for(span, ago, points):
    until = NOW - ago
    tier, bucket = choose(until - span, until, points, NOW)
    assert bucket >= max(tier.bucket, timedelta(milliseconds=1))
    first = (until - span - NOW) // bucket
    last = (until - timedelta(microseconds=1) - NOW) // bucket
    assert last - first + 1 <= points


def test_points_hold_least_greatest_mean_and_last(session, fill, condense):
    stream = fill(*((NOW - timedelta(minutes=minute), float(minute)) for minute in range(1, 121)))
    condense()
    found = series.series(session, stream, NOW - timedelta(hours=2), NOW, 13, NOW)
    assert (found.tier, found.bucket) == (MINUTES, timedelta(minutes=10))
    first = found.points[0]
    assert (first.at, first.min, first.max, first.mean, first.count, first.last) == (
        NOW - timedelta(hours=2),
        111.0,
        120.0,
        115.5,
        10,
        111.0,
    )
    assert len(found.points) == 12


def test_a_sample_alone_stands_at_its_own_time_and_gaps_stay_gaps(session, fill):
    at = NOW - timedelta(minutes=7, seconds=3, milliseconds=21)
    stream = fill((at, 4.0), (NOW - timedelta(seconds=1), 5.0))
    found = series.series(session, stream, NOW - timedelta(minutes=15), NOW, 1000, NOW)
    assert [(point.at, point.mean) for point in found.points] == [(at, 4.0), (NOW - timedelta(seconds=1), 5.0)]


def test_the_end_of_a_span_is_not_part_of_it(session, fill):
    stream = fill((NOW - timedelta(minutes=1), 1.0), (NOW, 2.0))
    found = series.series(session, stream, NOW - timedelta(minutes=1), NOW, 100, NOW)
    assert [point.last for point in found.points] == [1.0]


@pytest.mark.parametrize(
    ("since", "points", "field"),
    [
        (NOW, 100, "since"),
        (NOW + timedelta(1), 100, "since"),
        (NOW - timedelta(days=4000), 100, "since"),
        (NOW - timedelta(1), 1, "points"),
        (NOW - timedelta(1), 1001, "points"),
    ],
)
def test_what_cannot_be_asked_is_named(session, fill, since, points, field):
    with pytest.raises(Invalid) as error:
        series.series(session, fill((NOW, 1.0)), since, NOW, points, NOW)
    assert error.value.field == field


@pytest.mark.parametrize("value", [5e-324, 1e300, -1e300, 0.1])
def test_a_mean_lies_between_least_and_greatest(session, fill, value):
    stream = fill(*((NOW - timedelta(milliseconds=number), value) for number in range(1, 8)))
    [point] = series.series(session, stream, NOW - timedelta(seconds=30), NOW, 2, NOW).points
    assert (point.min, point.mean, point.max, point.count) == (value, value, value, 7)


def test_csv_is_rfc_4180_with_times_in_utc(session, fill, condense):
    stream = fill((NOW, -21.5), (NOW + timedelta(microseconds=1), 1e300))
    condense()
    until = NOW + timedelta(hours=1)
    raw = export.header(RAW) + export.lines(RAW, export.page(session, stream, RAW, NOW, until))
    assert raw == "at,value\r\n2026-03-04T12:00:00Z,-21.5\r\n2026-03-04T12:00:00.000001Z,1e+300\r\n"
    hours = export.header(HOURS) + export.lines(HOURS, export.page(session, stream, HOURS, NOW, until))
    assert hours == "at,min,max,mean,count,last\r\n2026-03-04T12:00:00Z,-21.5,1e+300,5e+299,2,1e+300\r\n"
    assert export.file_name(stream, HOURS) == "porch-temperature-hours.csv"
