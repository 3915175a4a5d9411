-- What was refused, counted per minute; and what could not be stored, kept with its error.

CREATE TABLE denials (
    denial_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    minute timestamptz NOT NULL,
    principal text NOT NULL,
    agent_id uuid REFERENCES agents (agent_id) ON DELETE CASCADE,
    device_id uuid REFERENCES devices (device_id) ON DELETE CASCADE,
    action text NOT NULL CHECK (action IN ('connect', 'publish', 'subscribe', 'message')),
    topic text NOT NULL,
    reason text NOT NULL,
    count bigint NOT NULL DEFAULT 1 CHECK (count > 0),
    last_at timestamptz NOT NULL,
    CONSTRAINT denials_minute_key UNIQUE (minute, principal, action, topic, reason)
);
CREATE INDEX denials_agent_idx ON denials (agent_id, last_at DESC);
CREATE INDEX denials_device_idx ON denials (device_id, last_at DESC);

CREATE TABLE dead_letters (
    dead_letter_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    payload bytea NOT NULL,
    error text NOT NULL,
    received_at timestamptz NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT now()
);
