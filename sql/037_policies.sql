-- Policies: what may be approved without asking anybody, as narrowly as people say.

CREATE TABLE policies (
    policy_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    agent_id uuid NOT NULL REFERENCES agents (agent_id) ON DELETE CASCADE,
    name text NOT NULL CHECK (btrim(name) <> '' AND length(name) <= 80),
    enabled boolean NOT NULL DEFAULT false,
    revision integer NOT NULL DEFAULT 1 CHECK (revision > 0),
    tool text NOT NULL,
    -- Exactly the scopes that an action may need: one more, and the policy is none for it.
    scopes jsonb NOT NULL CHECK (jsonb_typeof(scopes) = 'array'),
    device_id uuid,
    tag text,
    conditions jsonb NOT NULL DEFAULT '[]'::jsonb CHECK (jsonb_typeof(conditions) = 'array'),
    other_args boolean NOT NULL DEFAULT false,
    time_window jsonb CHECK (jsonb_typeof(time_window) = 'object'),
    rate_count integer CHECK (rate_count BETWEEN 1 AND 10000),
    rate_s double precision CHECK (rate_s BETWEEN 1 AND 604800),
    risk_max text NOT NULL DEFAULT 'low' CHECK (risk_max IN ('low', 'medium', 'high')),
    proposers jsonb NOT NULL DEFAULT '[]'::jsonb CHECK (jsonb_typeof(proposers) = 'array'),
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT policies_device_fkey FOREIGN KEY (device_id, agent_id)
        REFERENCES devices (device_id, agent_id) ON DELETE CASCADE,
    CONSTRAINT policies_rate_check CHECK ((rate_count IS NULL) = (rate_s IS NULL)),
    CONSTRAINT policies_whose_check CHECK (device_id IS NULL OR tag IS NULL)
);
CREATE UNIQUE INDEX policies_name_idx ON policies (agent_id, lower(name));
CREATE INDEX policies_device_idx ON policies (device_id);
CREATE INDEX actions_policy_idx ON actions (agent_id, (policy ->> 'policy_id'), approved_at) WHERE policy IS NOT NULL;
