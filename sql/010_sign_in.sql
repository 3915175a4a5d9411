-- How people sign in: passwords, one-time links, and the brake on guessing.

ALTER TABLE users
    ALTER COLUMN cognito_sub DROP NOT NULL,
    ADD COLUMN password_hash text,
    ADD COLUMN disabled boolean NOT NULL DEFAULT false;

-- Only those who can sign in must be told apart by address; rows from an earlier system may share one.
CREATE UNIQUE INDEX users_sign_in_email_idx ON users (lower(email)) WHERE password_hash IS NOT NULL;

CREATE TABLE one_time_links (
    link_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    purpose text NOT NULL CHECK (purpose IN ('setup', 'invite', 'reset')),
    token_hash text NOT NULL UNIQUE,
    user_id uuid REFERENCES users (user_id) ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    CONSTRAINT one_time_links_user_check CHECK ((purpose = 'setup') = (user_id IS NULL))
);

-- `key` is "account:<address in lower case>" or "address:<network address>".
CREATE TABLE sign_in_brakes (
    key text PRIMARY KEY,
    failures integer NOT NULL CHECK (failures > 0),
    last_failure_at timestamptz NOT NULL,
    retry_at timestamptz NOT NULL
);
