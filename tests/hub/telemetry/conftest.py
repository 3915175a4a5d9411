"""A device whose streams the tests fill, at times of their choosing."""

from collections.abc import Callable
from datetime import datetime

import pytest
from sqlmodel import Session

from hub.tables import Device
from hub.telemetry import rollups, samples, streams
from hub.telemetry.samples import NewSamples
from hub.telemetry.streams import StreamView


@pytest.fixture
def fill(session: Session, device: Device) -> Callable[..., StreamView]:
    """Store samples of a stream, pairs of time and value; returns the stream."""

    def fill(*pairs: tuple[datetime, float], stream: str = "temperature", of: Device = device) -> StreamView:
        assert not samples.append(session, [NewSamples(of.device_id, of.agent_id, stream, pairs)])
        return streams.find(session, of.agent_id, of.device_id, stream)

    return fill


@pytest.fixture
def condense(session: Session) -> Callable[[], int]:
    """Down-sample all that has to be; returns how many hours that were."""

    def condense() -> int:
        total = 0
        while done := rollups.downsample(session):
            total += done
        return total

    return condense
