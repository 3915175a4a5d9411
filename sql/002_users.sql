-- Who signs in, and what each user is to each agent.

CREATE TABLE users (
    user_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    cognito_sub text NOT NULL UNIQUE,
    email text,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE agent_memberships (
    agent_id uuid NOT NULL REFERENCES agents (agent_id) ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    role text NOT NULL CHECK (role IN ('owner', 'admin', 'member', 'guest', 'blocked')),
    relationship_label text,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz,
    PRIMARY KEY (agent_id, user_id)
);
CREATE INDEX agent_memberships_user_idx ON agent_memberships (user_id);
