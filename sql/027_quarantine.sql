-- Devices whose messages are set aside for now, because they flood or send garbage. The row goes when they are let go;
-- the audit keeps that they were.

CREATE TABLE quarantines (
    device_id uuid PRIMARY KEY,
    agent_id uuid NOT NULL,
    reason text NOT NULL CHECK (reason IN ('flood', 'garbage')),
    detail text NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    -- As it looks now: what it goes on sending moves it.
    until timestamptz NOT NULL,
    set_aside bigint NOT NULL DEFAULT 0 CHECK (set_aside >= 0),
    last_topic text NOT NULL DEFAULT '',
    last_at timestamptz,
    FOREIGN KEY (device_id, agent_id) REFERENCES devices (device_id, agent_id) ON DELETE CASCADE
);
