-- A device's name on the wire, where it stands, and how everything that speaks MQTT proves who it is.

ALTER TABLE devices
    ADD COLUMN handle text,
    ADD COLUMN space_id uuid REFERENCES spaces (space_id) ON DELETE SET NULL,
    ADD COLUMN needs_enrolment boolean NOT NULL DEFAULT false,
    ADD COLUMN revoked_by text,
    ADD COLUMN revoked_reason text;

-- Old tokens do not name their device, so they cannot be used on the wire: the devices keep their rows and get a new
-- token when someone rotates it. The old hashes, and names as they were, are kept apart for the rollback alone.
CREATE TABLE legacy_device_tokens (
    device_id uuid PRIMARY KEY REFERENCES devices (device_id) ON DELETE CASCADE,
    token_hash text NOT NULL,
    name text
);
INSERT INTO legacy_device_tokens (device_id, token_hash, name) SELECT device_id, token_hash, name FROM devices;

-- Devices from before handles: "Front Door" becomes front-door; a second one also gets a piece of its
-- id, and one without a name is called by that.
WITH proposed AS (
    SELECT device_id,
           coalesce(nullif(trim(BOTH '-' FROM left(regexp_replace(lower(coalesce(name, '')), '[^a-z0-9]+', '-', 'g'), 50)), ''),
                    'device-' || left(device_id::text, 8)) AS base,
           created_at
    FROM devices
), numbered AS (
    SELECT device_id, base, row_number() OVER (PARTITION BY base ORDER BY created_at, device_id) AS n FROM proposed
)
UPDATE devices SET handle = CASE WHEN numbered.n = 1 THEN numbered.base
                                 ELSE numbered.base || '-' || left(devices.device_id::text, 8) END
FROM numbered WHERE numbered.device_id = devices.device_id;

UPDATE devices SET name = handle WHERE name IS NULL OR btrim(name) = '';

ALTER TABLE devices
    ALTER COLUMN handle SET NOT NULL,
    ALTER COLUMN name SET NOT NULL,
    ADD CONSTRAINT devices_handle_key UNIQUE (handle),
    ADD CONSTRAINT devices_handle_check CHECK (handle ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    ADD CONSTRAINT devices_name_check CHECK (btrim(name) <> ''),
    ADD CONSTRAINT devices_scopes_check CHECK (jsonb_typeof(scopes) = 'array');

UPDATE devices SET needs_enrolment = true;
ALTER TABLE devices DROP COLUMN token_hash;

CREATE TABLE user_sessions (
    session_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    token_hash text NOT NULL UNIQUE,
    user_agent text NOT NULL DEFAULT '',
    address text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX user_sessions_user_idx ON user_sessions (user_id);

-- One row per secret. A replaced one stays, so that whoever still uses it can be told why it is refused.
CREATE TABLE credentials (
    credential_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    username text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('device', 'browser', 'hub')),
    device_id uuid REFERENCES devices (device_id) ON DELETE CASCADE,
    session_id uuid REFERENCES user_sessions (session_id) ON DELETE CASCADE,
    hash text NOT NULL CHECK (hash LIKE 'pbkdf2-sha512$%'),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    replaced_at timestamptz,
    CONSTRAINT credentials_owner_check CHECK (
        (kind = 'device' AND device_id IS NOT NULL AND session_id IS NULL)
        OR (kind = 'browser' AND session_id IS NOT NULL AND device_id IS NULL AND expires_at IS NOT NULL)
        OR (kind = 'hub' AND device_id IS NULL AND session_id IS NULL)),
    -- Handles have no underscore, so the other kinds of principal can never take a device's name.
    CONSTRAINT credentials_username_check CHECK ((kind = 'device') = (username ~ '^[a-z0-9][a-z0-9-]{0,62}$'))
);
CREATE INDEX credentials_username_idx ON credentials (username);
CREATE UNIQUE INDEX credentials_current_device_idx ON credentials (device_id) WHERE replaced_at IS NULL;
CREATE INDEX credentials_session_idx ON credentials (session_id);
