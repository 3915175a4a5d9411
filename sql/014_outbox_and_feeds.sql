-- What the hub has to say over MQTT, written in the transaction that makes it true and published after its commit.

CREATE TABLE outbox (
    outbox_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL CHECK (topic <> '' AND topic !~ '[+#]'),
    payload bytea NOT NULL,
    qos smallint NOT NULL DEFAULT 1 CHECK (qos IN (0, 1)),
    retain boolean NOT NULL DEFAULT false,
    -- Set for a command: its row is marked `sent` when the broker has acknowledged it.
    command_id uuid REFERENCES commands (command_id) ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Every retained topic that the hub wrote, so that it can be written again after a broker lost its memory, and purged
-- when its device goes.
CREATE TABLE retained_topics (
    topic text PRIMARY KEY,
    device_id uuid REFERENCES devices (device_id) ON DELETE CASCADE,
    payload bytea NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX retained_topics_device_idx ON retained_topics (device_id);

CREATE TABLE feed_revisions (
    agent_id uuid PRIMARY KEY REFERENCES agents (agent_id) ON DELETE CASCADE,
    rev bigint NOT NULL DEFAULT 0
);

CREATE TABLE feed_entries (
    agent_id uuid NOT NULL REFERENCES agents (agent_id) ON DELETE CASCADE,
    rev bigint NOT NULL,
    feed text NOT NULL CHECK (feed IN ('presence', 'devices', 'events', 'commands', 'denials')),
    message jsonb NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent_id, rev)
);
CREATE INDEX feed_entries_at_idx ON feed_entries (at);
