-- Automations: when this happens, propose that. What happens is queued in the transaction that stores it.

CREATE TABLE automations (
    automation_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    agent_id uuid NOT NULL REFERENCES agents (agent_id) ON DELETE CASCADE,
    name text NOT NULL CHECK (btrim(name) <> '' AND length(name) <= 80),
    enabled boolean NOT NULL DEFAULT false,
    revision integer NOT NULL DEFAULT 1 CHECK (revision > 0),
    kind text NOT NULL CHECK (kind IN ('event', 'presence', 'telemetry', 'time')),
    -- What is joined with what happens; the rest of the trigger is in `trigger`.
    event_type text,
    device_id uuid,
    tag text,
    space_id uuid REFERENCES spaces (space_id) ON DELETE CASCADE,
    stream text,
    trigger jsonb NOT NULL CHECK (jsonb_typeof(trigger) = 'object'),
    conditions jsonb NOT NULL DEFAULT '[]'::jsonb CHECK (jsonb_typeof(conditions) = 'array'),
    tool text NOT NULL,
    args jsonb NOT NULL DEFAULT '{}'::jsonb CHECK (jsonb_typeof(args) = 'object'),
    why text NOT NULL DEFAULT '' CHECK (length(why) <= 500),
    cooldown_s double precision NOT NULL DEFAULT 0 CHECK (cooldown_s BETWEEN 0 AND 604800),
    next_at timestamptz,
    last_fired_at timestamptz,
    last_error text,
    last_error_at timestamptz,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT automations_agent_key UNIQUE (automation_id, agent_id),
    CONSTRAINT automations_device_fkey FOREIGN KEY (device_id, agent_id)
        REFERENCES devices (device_id, agent_id) ON DELETE CASCADE,
    CONSTRAINT automations_event_check CHECK ((kind = 'event') = (event_type IS NOT NULL)),
    CONSTRAINT automations_stream_check CHECK ((kind = 'telemetry') = (stream IS NOT NULL)),
    CONSTRAINT automations_next_check CHECK (next_at IS NULL OR (kind = 'time' AND enabled))
);
CREATE UNIQUE INDEX automations_name_idx ON automations (agent_id, lower(name));
CREATE INDEX automations_happens_idx ON automations (agent_id, kind) WHERE enabled;
CREATE INDEX automations_next_idx ON automations (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX automations_device_idx ON automations (device_id);
CREATE INDEX automations_space_idx ON automations (space_id);

-- What an automation knows of one device: whether its threshold is passed, and since when something lasts.
CREATE TABLE automation_states (
    automation_id uuid NOT NULL,
    agent_id uuid NOT NULL,
    device_id uuid NOT NULL,
    is_on boolean NOT NULL DEFAULT false,
    due_at timestamptz,
    facts jsonb NOT NULL DEFAULT '{}'::jsonb,
    PRIMARY KEY (automation_id, device_id),
    CONSTRAINT automation_states_automation_fkey FOREIGN KEY (automation_id, agent_id)
        REFERENCES automations (automation_id, agent_id) ON DELETE CASCADE,
    CONSTRAINT automation_states_device_fkey FOREIGN KEY (device_id, agent_id)
        REFERENCES devices (device_id, agent_id) ON DELETE CASCADE
);
CREATE INDEX automation_states_due_idx ON automation_states (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX automation_states_device_idx ON automation_states (device_id);

-- What happened and concerns an automation: taken away in the transaction that proposes.
CREATE TABLE automation_queue (
    queue_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    automation_id uuid NOT NULL,
    agent_id uuid NOT NULL,
    device_id uuid,
    event_id uuid,
    facts jsonb NOT NULL,
    at timestamptz NOT NULL,
    CONSTRAINT automation_queue_automation_fkey FOREIGN KEY (automation_id, agent_id)
        REFERENCES automations (automation_id, agent_id) ON DELETE CASCADE
);
CREATE INDEX automation_queue_automation_idx ON automation_queue (automation_id);

CREATE FUNCTION automation_queue_told() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('marvain_automations', '');
    RETURN NULL;
END $$;
CREATE TRIGGER automation_queue_told AFTER INSERT ON automation_queue
    FOR EACH ROW EXECUTE FUNCTION automation_queue_told();
