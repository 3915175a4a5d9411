-- An event carries the id its device gave it, and is stored once however often it is sent.

ALTER TABLE events
    ADD COLUMN event_no bigint GENERATED ALWAYS AS IDENTITY,
    ADD COLUMN message_id text,
    ADD COLUMN epoch bigint,
    ADD COLUMN seq bigint,
    ADD COLUMN happened_at timestamptz,
    ALTER COLUMN space_id DROP NOT NULL,
    ADD CONSTRAINT events_event_no_key UNIQUE (event_no),
    ADD CONSTRAINT events_message_id_key UNIQUE (device_id, message_id);

CREATE INDEX events_agent_no_idx ON events (agent_id, event_no DESC);
