-- What the HTTP interface needs: tokens of people, keys that make a repeated request harmless, events told by people,
-- and a replaced token that is still good for a while.

CREATE TABLE personal_tokens (
    token_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    name text NOT NULL CHECK (btrim(name) <> ''),
    token_hash text NOT NULL UNIQUE,
    scopes jsonb NOT NULL CHECK (jsonb_typeof(scopes) = 'array' AND jsonb_array_length(scopes) > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    last_used_at timestamptz,
    revoked_at timestamptz,
    CONSTRAINT personal_tokens_lifetime_check CHECK (expires_at > created_at)
);
CREATE INDEX personal_tokens_user_idx ON personal_tokens (user_id, created_at DESC);

CREATE TABLE idempotency_keys (
    principal text NOT NULL,
    key text NOT NULL CHECK (key <> '' AND octet_length(key) <= 200),
    request_hash text NOT NULL,
    status smallint NOT NULL,
    body jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (principal, key)
);
CREATE INDEX idempotency_keys_created_idx ON idempotency_keys (created_at);

ALTER TABLE events ADD COLUMN user_id uuid REFERENCES users (user_id) ON DELETE SET NULL;
CREATE UNIQUE INDEX events_user_message_idx ON events (agent_id, user_id, message_id) WHERE user_id IS NOT NULL;

-- A token that was replaced with an overlap is good until then.
ALTER TABLE credentials
    ADD COLUMN valid_until timestamptz,
    ADD CONSTRAINT credentials_overlap_check CHECK (valid_until IS NULL OR (kind = 'device' AND replaced_at IS NOT NULL));
CREATE INDEX credentials_overlap_idx ON credentials (valid_until) WHERE valid_until IS NOT NULL;
