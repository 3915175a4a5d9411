-- What tools are allowed, and what they keep: hosts outside, channels that notify, actions that come later.

CREATE TABLE outside_hosts (
    agent_id uuid NOT NULL REFERENCES agents (agent_id) ON DELETE CASCADE,
    -- As it stands in a URL, with its port when that is not the usual one.
    host text NOT NULL CHECK (host = lower(host) AND length(host) BETWEEN 1 AND 260),
    methods text[] NOT NULL CHECK (cardinality(methods) > 0
        AND methods <@ ARRAY['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE']),
    added_by text NOT NULL,
    added_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent_id, host)
);

CREATE TABLE notify_channels (
    channel_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    agent_id uuid NOT NULL REFERENCES agents (agent_id) ON DELETE CASCADE,
    name text NOT NULL CHECK (name ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    -- The host for people to see; the address itself is a secret of many services, and sealed with the token.
    host text NOT NULL,
    sealed bytea NOT NULL,
    added_by text NOT NULL,
    added_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT notify_channels_name_key UNIQUE (agent_id, name)
);

-- Once at `next_at`, or by `cron` again and again; what is done stands in the action that was approved.
CREATE TABLE schedules (
    schedule_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    agent_id uuid NOT NULL,
    action_id uuid NOT NULL,
    cron text CHECK (length(cron) BETWEEN 9 AND 120),
    zone text NOT NULL DEFAULT 'UTC',
    next_at timestamptz,
    left_over integer CHECK (left_over >= 0),
    stopped_at timestamptz,
    stopped_by text,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT schedules_action_fkey FOREIGN KEY (action_id, agent_id)
        REFERENCES actions (action_id, agent_id) ON DELETE CASCADE,
    CONSTRAINT schedules_action_key UNIQUE (action_id),
    CONSTRAINT schedules_next_check CHECK ((next_at IS NULL) = (stopped_at IS NOT NULL))
);
CREATE INDEX schedules_next_idx ON schedules (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX schedules_agent_idx ON schedules (agent_id);
