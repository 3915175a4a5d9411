-- Commands can be cancelled while they wait, and be sent to all devices with a tag; devices have desired and reported
-- values with revisions.

ALTER TABLE commands
    DROP CONSTRAINT commands_status_check,
    DROP CONSTRAINT commands_finished_check,
    ADD CONSTRAINT commands_status_check CHECK (status IN ('queued', 'sent', 'accepted', 'running', 'succeeded',
        'failed', 'rejected', 'expired', 'unknown', 'late', 'cancelled')),
    ADD CONSTRAINT commands_finished_check CHECK ((finished_at IS NOT NULL) = (status IN (
        'succeeded', 'failed', 'rejected', 'expired', 'unknown', 'late', 'cancelled')));
-- What is over is forgotten after a time.
CREATE INDEX commands_finished_idx ON commands (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX outbox_command_idx ON outbox (command_id) WHERE command_id IS NOT NULL;

-- A word that devices share, to find them by and to speak to all of them.
CREATE TABLE device_tags (
    device_id uuid NOT NULL,
    agent_id uuid NOT NULL,
    tag text NOT NULL CHECK (tag ~ '^[a-z0-9][a-z0-9_-]{0,31}$'),
    PRIMARY KEY (device_id, tag),
    CONSTRAINT device_tags_device_fkey FOREIGN KEY (device_id, agent_id)
        REFERENCES devices (device_id, agent_id) ON DELETE CASCADE
);
CREATE INDEX device_tags_tag_idx ON device_tags (agent_id, tag);

-- One wish for many devices: a command, or values to be set.
CREATE TABLE command_batches (
    batch_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    agent_id uuid NOT NULL REFERENCES agents (agent_id) ON DELETE CASCADE,
    kind text NOT NULL CHECK (kind IN ('command', 'merge', 'replace')),
    tag text NOT NULL,
    -- The verb of a command; a config has none.
    verb text CHECK ((verb IS NOT NULL) = (kind = 'command')),
    -- The arguments of the command, or the values of the config.
    args jsonb NOT NULL DEFAULT '{}'::jsonb CHECK (jsonb_typeof(args) = 'object'),
    requested_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    UNIQUE (batch_id, agent_id)
);
CREATE INDEX command_batches_time_idx ON command_batches (agent_id, created_at DESC);

-- Who had the tag and was left out, and why.
CREATE TABLE batch_skips (
    batch_id uuid NOT NULL,
    agent_id uuid NOT NULL,
    device_id uuid NOT NULL,
    reason text NOT NULL,
    PRIMARY KEY (batch_id, device_id),
    CONSTRAINT batch_skips_batch_fkey FOREIGN KEY (batch_id, agent_id)
        REFERENCES command_batches (batch_id, agent_id) ON DELETE CASCADE,
    CONSTRAINT batch_skips_device_fkey FOREIGN KEY (device_id, agent_id)
        REFERENCES devices (device_id, agent_id) ON DELETE CASCADE
);

ALTER TABLE commands
    ADD COLUMN batch_id uuid,
    ADD CONSTRAINT commands_batch_fkey FOREIGN KEY (batch_id, agent_id)
        REFERENCES command_batches (batch_id, agent_id) ON DELETE CASCADE;
CREATE INDEX commands_batch_idx ON commands (batch_id) WHERE batch_id IS NOT NULL;

-- How a device is to be set and how it says that it is.
CREATE TABLE device_config (
    device_id uuid PRIMARY KEY,
    agent_id uuid NOT NULL,
    desired jsonb NOT NULL DEFAULT '{}'::jsonb CHECK (jsonb_typeof(desired) = 'object'),
    -- 0 while nobody has asked for anything.
    desired_rev bigint NOT NULL DEFAULT 0 CHECK (desired_rev >= 0),
    set_by text,
    set_at timestamptz,
    reported jsonb NOT NULL DEFAULT '{}'::jsonb CHECK (jsonb_typeof(reported) = 'object'),
    reported_rev bigint CHECK (reported_rev >= 0),
    reported_at timestamptz,
    ok boolean,
    error text NOT NULL DEFAULT '',
    -- What the device refuses, with its reasons, by key.
    refused jsonb NOT NULL DEFAULT '{}'::jsonb CHECK (jsonb_typeof(refused) = 'object'),
    CONSTRAINT device_config_device_fkey FOREIGN KEY (device_id, agent_id)
        REFERENCES devices (device_id, agent_id) ON DELETE CASCADE,
    CONSTRAINT device_config_answered_check CHECK (
        (reported_rev IS NULL) = (reported_at IS NULL) AND (reported_rev IS NULL) = (ok IS NULL))
);

-- What was wanted before, so that it can be wanted again.
CREATE TABLE device_config_history (
    device_id uuid NOT NULL REFERENCES device_config (device_id) ON DELETE CASCADE,
    agent_id uuid NOT NULL,
    rev bigint NOT NULL,
    desired jsonb NOT NULL,
    set_by text NOT NULL,
    set_at timestamptz NOT NULL,
    batch_id uuid,
    PRIMARY KEY (device_id, rev),
    CONSTRAINT device_config_history_device_fkey FOREIGN KEY (device_id, agent_id)
        REFERENCES devices (device_id, agent_id) ON DELETE CASCADE,
    CONSTRAINT device_config_history_batch_fkey FOREIGN KEY (batch_id, agent_id)
        REFERENCES command_batches (batch_id, agent_id) ON DELETE SET NULL (batch_id)
);
CREATE INDEX device_config_history_batch_idx ON device_config_history (batch_id) WHERE batch_id IS NOT NULL;
