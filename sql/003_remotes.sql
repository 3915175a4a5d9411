-- Two tables of the earlier system, exactly as loose as they were there: 005 and 007 move their rows to
-- agent_memberships and devices, and nothing else reads them.

CREATE TABLE remotes (
    remote_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    agent_id uuid NOT NULL REFERENCES agents (agent_id) ON DELETE CASCADE,
    name text,
    address text,
    connection_type text DEFAULT 'network',
    capabilities jsonb,
    status text DEFAULT 'offline',
    last_ping timestamptz,
    last_seen timestamptz,
    created_at timestamptz DEFAULT now()
);

-- No foreign keys: rows may name users and agents that are gone.
CREATE TABLE memberships (
    membership_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL,
    agent_id uuid NOT NULL,
    role text DEFAULT 'member',
    relationship_label text,
    created_at timestamptz DEFAULT now(),
    UNIQUE (user_id, agent_id)
);
