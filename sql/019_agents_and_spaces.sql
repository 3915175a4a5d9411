-- Agents, spaces and devices are changed by several people, switched off, and deleted.

ALTER TABLE agents
    ADD COLUMN about text NOT NULL DEFAULT '',
    -- Rises with every change: a change says which one it was made from.
    ADD COLUMN revision integer NOT NULL DEFAULT 1 CHECK (revision > 0),
    -- Gone for everybody from then on; its rows are removed bit by bit.
    ADD COLUMN deleted_at timestamptz,
    ADD COLUMN deleted_by text,
    ADD CONSTRAINT agents_deleted_check CHECK (deleted_at IS NULL OR disabled);
CREATE INDEX agents_deleted_idx ON agents (deleted_at) WHERE deleted_at IS NOT NULL;

ALTER TABLE spaces
    ADD COLUMN revision integer NOT NULL DEFAULT 1 CHECK (revision > 0);

ALTER TABLE devices
    ADD COLUMN revision integer NOT NULL DEFAULT 1 CHECK (revision > 0),
    -- The row stays: what the device reported is still told under its name, and its handle names nobody else.
    ADD COLUMN deleted_at timestamptz,
    ADD COLUMN deleted_by text,
    ADD CONSTRAINT devices_deleted_check CHECK (deleted_at IS NULL OR revoked_at IS NOT NULL);

-- Handles of agents that are gone. One that was used names nobody else: grants and retained messages may still hold it.
CREATE TABLE retired_handles (
    handle text PRIMARY KEY,
    retired_at timestamptz NOT NULL DEFAULT now()
);
