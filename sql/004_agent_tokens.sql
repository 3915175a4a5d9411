-- Tokens with which one agent may call another.

CREATE TABLE agent_tokens (
    token_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    issuer_agent_id uuid NOT NULL REFERENCES agents (agent_id) ON DELETE CASCADE,
    target_agent_id uuid REFERENCES agents (agent_id) ON DELETE CASCADE,
    name text NOT NULL DEFAULT 'agent-token',
    token_hash text NOT NULL UNIQUE,
    scopes jsonb NOT NULL DEFAULT '[]'::jsonb,
    allowed_spaces jsonb,
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by_user_id uuid REFERENCES users (user_id) ON DELETE SET NULL
);
CREATE INDEX agent_tokens_issuer_idx ON agent_tokens (issuer_agent_id);
