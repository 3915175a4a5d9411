"""Telemetry: streams of devices, their samples, and what these are condensed to. Partitions are not mirrored."""

import uuid
from datetime import datetime

from sqlalchemy import BigInteger, Column, ForeignKeyConstraint, Identity, Integer, UniqueConstraint
from sqlmodel import Field, SQLModel

from hub.tables.columns import TIMESTAMPTZ, created, default


class TelemetryStream(SQLModel, table=True):
    """One thing that a device measures, with its newest sample."""

    __tablename__ = "telemetry_streams"
    __table_args__ = (
        UniqueConstraint("device_id", "name"),
        ForeignKeyConstraint(["device_id", "agent_id"], ["devices.device_id", "devices.agent_id"], ondelete="CASCADE"),
    )
    stream_id: int | None = Field(default=None, sa_column=Column(Integer, Identity(always=True), primary_key=True))
    agent_id: uuid.UUID
    device_id: uuid.UUID
    name: str
    created_at: datetime = created()
    last_at: datetime = Field(sa_type=TIMESTAMPTZ)
    last_value: float


class TelemetrySample(SQLModel, table=True):
    """One value as the device sent it."""

    __tablename__ = "telemetry_samples"
    stream_id: int = Field(primary_key=True)
    at: datetime = Field(sa_type=TIMESTAMPTZ, primary_key=True)
    value: float


class TelemetryMinute(SQLModel, table=True):
    """All samples of one minute, which begins at `at`."""

    __tablename__ = "telemetry_minutes"
    stream_id: int = Field(primary_key=True)
    at: datetime = Field(sa_type=TIMESTAMPTZ, primary_key=True)
    min: float
    max: float
    sum: float
    count: int = Field(sa_type=BigInteger)
    last: float


class TelemetryHour(SQLModel, table=True):
    """All samples of one hour, which begins at `at`."""

    __tablename__ = "telemetry_hours"
    stream_id: int = Field(primary_key=True)
    at: datetime = Field(sa_type=TIMESTAMPTZ, primary_key=True)
    min: float
    max: float
    sum: float
    count: int = Field(sa_type=BigInteger)
    last: float


class TelemetryStale(SQLModel, table=True):
    """An hour of a stream that has to be condensed anew."""

    __tablename__ = "telemetry_stale"
    stream_id: int = Field(primary_key=True)
    hour: datetime = Field(sa_type=TIMESTAMPTZ, primary_key=True)
    touches: int = Field(default=1, sa_type=BigInteger, sa_column_kwargs=default("1"))


class TelemetryForgotten(SQLModel, table=True):
    """A stream that is gone and whose samples are not yet."""

    __tablename__ = "telemetry_forgotten"
    stream_id: int = Field(primary_key=True)
    forgotten_at: datetime = created()


class TelemetryWatch(SQLModel, table=True):
    """A device whose samples somebody looks at."""

    __tablename__ = "telemetry_watches"
    device_id: uuid.UUID = Field(foreign_key="devices.device_id", ondelete="CASCADE", primary_key=True)
    until: datetime = Field(sa_type=TIMESTAMPTZ)
