-- An agent, the places and people it knows, what happens there, what it remembers and what it wants to do.
-- Together with 002 to 004 this is the schema of the earlier system, so that its databases and fresh ones go one way.
-- Only core PostgreSQL and pgvector are used: an embedded server has no contrib extensions.

CREATE EXTENSION IF NOT EXISTS vector;

CREATE TABLE agents (
    agent_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL,
    disabled boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE spaces (
    space_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    agent_id uuid NOT NULL REFERENCES agents (agent_id) ON DELETE CASCADE,
    name text NOT NULL,
    privacy_mode boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX spaces_agent_idx ON spaces (agent_id);

CREATE TABLE devices (
    device_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    agent_id uuid NOT NULL REFERENCES agents (agent_id) ON DELETE CASCADE,
    name text,
    capabilities jsonb NOT NULL DEFAULT '{}'::jsonb,
    scopes jsonb NOT NULL DEFAULT '[]'::jsonb,
    token_hash text NOT NULL UNIQUE,
    revoked_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_seen timestamptz
);
CREATE INDEX devices_agent_idx ON devices (agent_id);

CREATE TABLE people (
    person_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    agent_id uuid NOT NULL REFERENCES agents (agent_id) ON DELETE CASCADE,
    display_name text NOT NULL,
    aliases jsonb NOT NULL DEFAULT '[]'::jsonb,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX people_agent_idx ON people (agent_id);

CREATE TABLE consent_grants (
    consent_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    agent_id uuid NOT NULL REFERENCES agents (agent_id) ON DELETE CASCADE,
    person_id uuid NOT NULL REFERENCES people (person_id) ON DELETE CASCADE,
    consent_type text NOT NULL,
    scope jsonb NOT NULL DEFAULT '{}'::jsonb,
    granted_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz
);
CREATE INDEX consent_grants_person_idx ON consent_grants (person_id);

CREATE TABLE presence (
    presence_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    agent_id uuid NOT NULL REFERENCES agents (agent_id) ON DELETE CASCADE,
    space_id uuid NOT NULL REFERENCES spaces (space_id) ON DELETE CASCADE,
    person_id uuid REFERENCES people (person_id) ON DELETE CASCADE,
    device_id uuid REFERENCES devices (device_id) ON DELETE CASCADE,
    status text NOT NULL,
    confidence double precision NOT NULL DEFAULT 0,
    last_update timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX presence_space_idx ON presence (space_id);

CREATE TABLE events (
    event_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    agent_id uuid NOT NULL REFERENCES agents (agent_id) ON DELETE CASCADE,
    space_id uuid NOT NULL REFERENCES spaces (space_id) ON DELETE CASCADE,
    device_id uuid REFERENCES devices (device_id) ON DELETE SET NULL,
    person_id uuid REFERENCES people (person_id) ON DELETE SET NULL,
    type text NOT NULL,
    payload jsonb NOT NULL DEFAULT '{}'::jsonb,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX events_space_time_idx ON events (space_id, created_at DESC);

CREATE TABLE memories (
    memory_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    agent_id uuid NOT NULL REFERENCES agents (agent_id) ON DELETE CASCADE,
    space_id uuid REFERENCES spaces (space_id) ON DELETE SET NULL,
    tier text NOT NULL,
    content text NOT NULL,
    participants jsonb NOT NULL DEFAULT '[]'::jsonb,
    provenance jsonb NOT NULL DEFAULT '{}'::jsonb,
    retention jsonb NOT NULL DEFAULT '{}'::jsonb,
    embedding vector(1536),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX memories_agent_time_idx ON memories (agent_id, created_at DESC);

CREATE TABLE actions (
    action_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    agent_id uuid NOT NULL REFERENCES agents (agent_id) ON DELETE CASCADE,
    space_id uuid REFERENCES spaces (space_id) ON DELETE SET NULL,
    kind text NOT NULL,
    payload jsonb NOT NULL DEFAULT '{}'::jsonb,
    required_scopes jsonb NOT NULL DEFAULT '[]'::jsonb,
    status text NOT NULL DEFAULT 'proposed',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    executed_at timestamptz
);
CREATE INDEX actions_agent_status_idx ON actions (agent_id, status, created_at DESC);

CREATE TABLE audit_state (
    agent_id uuid PRIMARY KEY REFERENCES agents (agent_id) ON DELETE CASCADE,
    last_hash text,
    updated_at timestamptz NOT NULL DEFAULT now()
);
