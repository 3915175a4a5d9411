-- Sign-in by an OpenID Connect provider: who somebody is there, and the sign-ins that are under way.

-- One identity of a provider for each user: an address that the provider gives to somebody else brings nobody in.
CREATE TABLE user_identities (
    issuer text NOT NULL CHECK (issuer <> ''),
    subject text NOT NULL CHECK (subject <> ''),
    user_id uuid NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (issuer, subject)
);
CREATE UNIQUE INDEX user_identities_user_idx ON user_identities (user_id, issuer);

-- The browser holds a token in a cookie; the row goes with the first answer that bears it.
CREATE TABLE foreign_sign_ins (
    token_hash text PRIMARY KEY,
    state_hash text NOT NULL,
    nonce text NOT NULL,
    code_verifier text NOT NULL,
    redirect_uri text NOT NULL,
    behind text NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX foreign_sign_ins_expires_idx ON foreign_sign_ins (expires_at);
