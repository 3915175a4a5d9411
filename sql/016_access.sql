-- Roles with grants, integrations that bear them, the audit of every change, and what the broker is seen to do.

CREATE TABLE integrations (
    integration_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    agent_id uuid NOT NULL REFERENCES agents (agent_id) ON DELETE CASCADE,
    handle text NOT NULL,
    name text NOT NULL CHECK (btrim(name) <> ''),
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    revoked_at timestamptz,
    revoked_by text,
    revoked_reason text,
    CONSTRAINT integrations_handle_key UNIQUE (handle),
    CONSTRAINT integrations_handle_check CHECK (handle ~ '^[a-z0-9][a-z0-9-]{0,58}$'),
    CONSTRAINT integrations_agent_key UNIQUE (integration_id, agent_id)
);
CREATE INDEX integrations_agent_idx ON integrations (agent_id);

ALTER TABLE devices ADD CONSTRAINT devices_agent_key UNIQUE (device_id, agent_id);

ALTER TABLE credentials
    ADD COLUMN integration_id uuid REFERENCES integrations (integration_id) ON DELETE CASCADE,
    -- The secret for the key of the broker's adapter alone, until the adapter has carried it to the broker.
    ADD COLUMN sealed bytea,
    DROP CONSTRAINT credentials_kind_check,
    DROP CONSTRAINT credentials_owner_check,
    DROP CONSTRAINT credentials_username_check,
    ADD CONSTRAINT credentials_kind_check CHECK (kind IN ('device', 'browser', 'integration', 'hub')),
    ADD CONSTRAINT credentials_owner_check CHECK (
        num_nonnulls(device_id, session_id, integration_id) = (kind <> 'hub')::integer
        AND (kind <> 'device' OR device_id IS NOT NULL)
        AND (kind <> 'browser' OR (session_id IS NOT NULL AND expires_at IS NOT NULL))
        AND (kind <> 'integration' OR integration_id IS NOT NULL)),
    -- Neither an underscore nor such a prefix can stand in a handle, so no kind can take another's name.
    ADD CONSTRAINT credentials_username_check CHECK (
        (kind = 'device') = (username ~ '^[a-z0-9][a-z0-9-]{0,62}$')
        AND (kind = 'integration') = (username ~ '^ext_[a-z0-9][a-z0-9-]{0,58}$'));
CREATE UNIQUE INDEX credentials_current_integration_idx ON credentials (integration_id) WHERE replaced_at IS NULL;
CREATE INDEX credentials_sealed_idx ON credentials (username) WHERE sealed IS NOT NULL;

CREATE TABLE roles (
    role_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    agent_id uuid NOT NULL REFERENCES agents (agent_id) ON DELETE CASCADE,
    name text NOT NULL CHECK (btrim(name) <> ''),
    about text NOT NULL DEFAULT '',
    -- Rises with every edit: an edit says which one it was made from.
    revision integer NOT NULL DEFAULT 1 CHECK (revision > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT roles_agent_key UNIQUE (role_id, agent_id)
);
CREATE UNIQUE INDEX roles_name_idx ON roles (agent_id, lower(name));

CREATE TABLE role_grants (
    role_id uuid NOT NULL REFERENCES roles (role_id) ON DELETE CASCADE,
    action text NOT NULL CHECK (action IN ('publish', 'subscribe')),
    -- Below the root; what begins with "//" is a filter outside of it: "//zigbee2mqtt/#" means zigbee2mqtt/#.
    filter text NOT NULL CHECK (filter <> '' AND octet_length(filter) <= 1024 AND filter !~ '#.' AND filter !~ '[^/]#'
        AND filter !~ '[^/][+]' AND filter !~ '[+][^/]'),
    PRIMARY KEY (role_id, action, filter)
);

-- Who bears a role: one device, one integration, or every device of the agent; never anything of another agent.
CREATE TABLE role_assignments (
    assignment_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    role_id uuid NOT NULL,
    agent_id uuid NOT NULL,
    device_id uuid,
    integration_id uuid,
    all_devices boolean NOT NULL DEFAULT false,
    CONSTRAINT role_assignments_role_fkey FOREIGN KEY (role_id, agent_id)
        REFERENCES roles (role_id, agent_id) ON DELETE CASCADE,
    CONSTRAINT role_assignments_device_fkey FOREIGN KEY (device_id, agent_id)
        REFERENCES devices (device_id, agent_id) ON DELETE CASCADE,
    CONSTRAINT role_assignments_integration_fkey FOREIGN KEY (integration_id, agent_id)
        REFERENCES integrations (integration_id, agent_id) ON DELETE CASCADE,
    CONSTRAINT role_assignments_one_check CHECK (num_nonnulls(device_id, integration_id) + all_devices::integer = 1)
);
CREATE UNIQUE INDEX role_assignments_device_idx ON role_assignments (role_id, device_id) WHERE device_id IS NOT NULL;
CREATE UNIQUE INDEX role_assignments_integration_idx ON role_assignments (role_id, integration_id)
    WHERE integration_id IS NOT NULL;
CREATE UNIQUE INDEX role_assignments_all_idx ON role_assignments (role_id) WHERE all_devices;
CREATE INDEX role_assignments_agent_idx ON role_assignments (agent_id);
CREATE INDEX role_assignments_bearer_device_idx ON role_assignments (device_id);
CREATE INDEX role_assignments_bearer_integration_idx ON role_assignments (integration_id);

CREATE TABLE audit_entries (
    entry_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    agent_id uuid REFERENCES agents (agent_id) ON DELETE CASCADE,
    at timestamptz NOT NULL DEFAULT now(),
    actor text NOT NULL,
    action text NOT NULL CHECK (action ~ '^[a-z_]+[.][a-z_]+$'),
    subject text NOT NULL,
    subject_id uuid,
    before jsonb,
    after jsonb
);
CREATE INDEX audit_entries_agent_idx ON audit_entries (agent_id, entry_id DESC);
CREATE INDEX audit_entries_subject_idx ON audit_entries (subject_id, entry_id DESC);

-- What the broker last said of itself; lost with a crash of the database and said anew.
CREATE UNLOGGED TABLE broker_sessions (
    username text PRIMARY KEY,
    connected boolean NOT NULL,
    address text NOT NULL DEFAULT '',
    transport text NOT NULL DEFAULT '',
    connected_at timestamptz,
    persistent boolean NOT NULL DEFAULT false,
    keep_alive_s integer NOT NULL DEFAULT 0,
    subscriptions jsonb NOT NULL DEFAULT '[]'::jsonb,
    queued integer NOT NULL DEFAULT 0,
    queued_bytes bigint NOT NULL DEFAULT 0,
    inflight integer NOT NULL DEFAULT 0,
    dropped bigint NOT NULL DEFAULT 0,
    received bigint NOT NULL DEFAULT 0,
    sent bigint NOT NULL DEFAULT 0,
    received_per_s real NOT NULL DEFAULT 0,
    sent_per_s real NOT NULL DEFAULT 0,
    reported_at timestamptz NOT NULL
);

CREATE UNLOGGED TABLE broker_retained (
    topic text PRIMARY KEY,
    username text NOT NULL,
    bytes integer NOT NULL,
    at timestamptz NOT NULL
);
CREATE INDEX broker_retained_username_idx ON broker_retained (username);

-- Messages per hour, publisher and topic, for the last day or so: what an edit would have refused.
CREATE TABLE traffic (
    hour timestamptz NOT NULL,
    principal text NOT NULL,
    topic text NOT NULL,
    count bigint NOT NULL CHECK (count > 0),
    last_at timestamptz NOT NULL,
    PRIMARY KEY (hour, principal, topic)
);
CREATE INDEX traffic_principal_idx ON traffic (principal, hour);

-- One row: which broker runs, and the public key for which secrets are sealed where an adapter carries them.
CREATE TABLE broker_state (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    kind text NOT NULL,
    sealing_key bytea,
    started_at timestamptz NOT NULL,
    reported_at timestamptz NOT NULL,
    detail jsonb NOT NULL DEFAULT '{}'::jsonb
);

ALTER TABLE denials ADD COLUMN integration_id uuid REFERENCES integrations (integration_id) ON DELETE CASCADE;
