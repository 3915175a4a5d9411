-- What is known of a device's connection: the evidence, and the verdict that the hub drew from it. One narrow row per
-- device, apart from `devices`, because every heartbeat writes it.

CREATE TABLE device_presence (
    device_id uuid PRIMARY KEY REFERENCES devices (device_id) ON DELETE CASCADE,
    epoch bigint NOT NULL DEFAULT 0 CHECK (epoch >= 0),
    verdict text NOT NULL DEFAULT 'offline' CHECK (verdict IN ('online', 'suspect', 'offline', 'sleeping')),
    why text NOT NULL DEFAULT 'never connected',
    since timestamptz NOT NULL DEFAULT now(),
    heartbeat_s double precision NOT NULL DEFAULT 15 CHECK (heartbeat_s > 0),
    last_heard_at timestamptz,
    last_hello_at timestamptz,
    last_heartbeat_at timestamptz,
    asleep_until timestamptz,
    probes smallint NOT NULL DEFAULT 0 CHECK (probes >= 0),
    probed_at timestamptz,
    source text NOT NULL DEFAULT 'mqtt' CHECK (source IN ('mqtt', 'http')),
    hello jsonb NOT NULL DEFAULT '{}'::jsonb
) WITH (fillfactor = 70);

INSERT INTO device_presence (device_id, last_heard_at, last_hello_at, last_heartbeat_at)
SELECT device_id, last_seen, last_hello_at, last_heartbeat_at FROM devices;

-- The sweep looks only at those who could go silent.
CREATE INDEX device_presence_watched_idx ON device_presence (device_id) WHERE verdict <> 'offline';

ALTER TABLE devices DROP COLUMN last_seen, DROP COLUMN last_hello_at, DROP COLUMN last_heartbeat_at;
