-- Numeric streams of devices: raw samples for days, minutes for months, hours for years, each in partitions by time that
-- the hub makes ahead and drops when they have had their time. Partitions are no part of a migration: they come and go.

CREATE TABLE telemetry_streams (
    stream_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    agent_id uuid NOT NULL,
    device_id uuid NOT NULL,
    name text NOT NULL CHECK (name ~ '^[A-Za-z0-9_-]{1,63}$'),
    created_at timestamptz NOT NULL DEFAULT now(),
    -- The newest sample by its own time.
    last_at timestamptz NOT NULL,
    last_value double precision NOT NULL,
    UNIQUE (device_id, name),
    FOREIGN KEY (device_id, agent_id) REFERENCES devices (device_id, agent_id) ON DELETE CASCADE
) WITH (fillfactor = 50);

-- No foreign keys from here on: they cost more than the insert itself, and dropping a partition would lock the streams.
-- Every reader comes by way of telemetry_streams, and what a deleted stream leaves behind is removed by its number.
CREATE TABLE telemetry_samples (
    stream_id integer NOT NULL,
    at timestamptz NOT NULL,
    value double precision NOT NULL,
    PRIMARY KEY (stream_id, at)
) PARTITION BY RANGE (at);

CREATE TABLE telemetry_minutes (
    stream_id integer NOT NULL,
    at timestamptz NOT NULL,
    min double precision NOT NULL,
    max double precision NOT NULL,
    sum double precision NOT NULL,
    count bigint NOT NULL,
    last double precision NOT NULL,
    PRIMARY KEY (stream_id, at)
) PARTITION BY RANGE (at);

CREATE TABLE telemetry_hours (
    stream_id integer NOT NULL,
    at timestamptz NOT NULL,
    min double precision NOT NULL,
    max double precision NOT NULL,
    sum double precision NOT NULL,
    count bigint NOT NULL,
    last double precision NOT NULL,
    PRIMARY KEY (stream_id, at)
) PARTITION BY RANGE (at);

-- Hours of streams that have samples which their minutes and hours do not know yet, however late they came. Written by
-- an UPDATE where it stands already: its lock is what keeps the down-sampling from overlooking an open transaction.
CREATE TABLE telemetry_stale (
    stream_id integer NOT NULL,
    hour timestamptz NOT NULL,
    touches bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (stream_id, hour)
) WITH (fillfactor = 50);

-- Streams that are gone and whose samples are not yet.
CREATE TABLE telemetry_forgotten (
    stream_id integer PRIMARY KEY,
    forgotten_at timestamptz NOT NULL DEFAULT now()
);

CREATE FUNCTION telemetry_forget() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO telemetry_forgotten (stream_id) SELECT stream_id FROM gone;
    RETURN NULL;
END
$$;

CREATE TRIGGER telemetry_forget AFTER DELETE ON telemetry_streams
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION telemetry_forget();

-- Devices whose samples somebody looks at, until when. For the others nothing is published to pages.
CREATE TABLE telemetry_watches (
    device_id uuid PRIMARY KEY REFERENCES devices (device_id) ON DELETE CASCADE,
    until timestamptz NOT NULL
);
