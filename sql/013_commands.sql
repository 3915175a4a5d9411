-- The command ledger: a command is a row before it is a message, and every step keeps its time and its witness.

CREATE TABLE commands (
    command_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    agent_id uuid NOT NULL REFERENCES agents (agent_id) ON DELETE CASCADE,
    device_id uuid NOT NULL REFERENCES devices (device_id) ON DELETE CASCADE,
    verb text NOT NULL CHECK (verb ~ '^[A-Za-z0-9_-]{1,63}$'),
    args jsonb NOT NULL DEFAULT '{}'::jsonb CHECK (jsonb_typeof(args) = 'object'),
    status text NOT NULL DEFAULT 'queued' CHECK (status IN (
        'queued', 'sent', 'accepted', 'running', 'succeeded', 'failed', 'rejected', 'expired', 'unknown', 'late')),
    requested_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    sent_at timestamptz,
    finished_at timestamptz,
    code text NOT NULL DEFAULT '',
    message text NOT NULL DEFAULT '',
    progress double precision CHECK (progress BETWEEN 0 AND 1),
    result jsonb,
    CONSTRAINT commands_finished_check CHECK (
        (finished_at IS NOT NULL) = (status IN ('succeeded', 'failed', 'rejected', 'expired', 'unknown', 'late')))
);
CREATE INDEX commands_device_time_idx ON commands (device_id, created_at DESC);
CREATE INDEX commands_open_idx ON commands (expires_at) WHERE finished_at IS NULL;

CREATE TABLE command_steps (
    step_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    command_id uuid NOT NULL REFERENCES commands (command_id) ON DELETE CASCADE,
    status text NOT NULL,
    witness text NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX command_steps_command_idx ON command_steps (command_id);
