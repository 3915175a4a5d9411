-- How a device gets its first token by itself: claim codes, and the devices that came with one.

CREATE TABLE claim_codes (
    claim_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    agent_id uuid NOT NULL REFERENCES agents (agent_id) ON DELETE CASCADE,
    code_hash text NOT NULL UNIQUE,
    -- For a device that is there already (it gets a new token), or for one to be made, with what is known of it.
    device_id uuid,
    name text CHECK (btrim(name) <> ''),
    handle text CHECK (handle ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    space_id uuid REFERENCES spaces (space_id) ON DELETE SET NULL,
    scopes jsonb NOT NULL CHECK (jsonb_typeof(scopes) = 'array'),
    needs_approval boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    -- Whose authority it is: a code is worth nothing once they may no longer add devices. None: the command line's.
    user_id uuid REFERENCES users (user_id) ON DELETE CASCADE,
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    withdrawn_at timestamptz,
    CONSTRAINT claim_codes_agent_key UNIQUE (claim_id, agent_id),
    CONSTRAINT claim_codes_device_fkey FOREIGN KEY (device_id, agent_id)
        REFERENCES devices (device_id, agent_id) ON DELETE CASCADE,
    CONSTRAINT claim_codes_lifetime_check CHECK (
        expires_at > created_at AND expires_at <= created_at + interval '7 days'),
    CONSTRAINT claim_codes_end_check CHECK (used_at IS NULL OR withdrawn_at IS NULL),
    CONSTRAINT claim_codes_device_check CHECK (device_id IS NULL OR (name IS NULL AND handle IS NULL))
);
CREATE INDEX claim_codes_open_idx ON claim_codes (agent_id, expires_at) WHERE used_at IS NULL AND withdrawn_at IS NULL;

CREATE TABLE enrolments (
    enrolment_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    agent_id uuid NOT NULL REFERENCES agents (agent_id) ON DELETE CASCADE,
    -- One code lets one device ask, however many try.
    claim_id uuid NOT NULL UNIQUE,
    device_id uuid,
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'approved', 'rejected', 'expired')),
    -- What the device says of itself, and where it came from.
    name text NOT NULL DEFAULT '',
    hardware text NOT NULL DEFAULT '',
    firmware text NOT NULL DEFAULT '',
    fingerprint text NOT NULL DEFAULT '',
    address text NOT NULL DEFAULT '',
    phrase text NOT NULL,
    poll_hash text NOT NULL,
    retry_hash text,
    asked_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    decided_at timestamptz,
    decided_by text,
    reason text,
    first_collected_at timestamptz,
    collected_at timestamptz,
    CONSTRAINT enrolments_claim_fkey FOREIGN KEY (claim_id, agent_id)
        REFERENCES claim_codes (claim_id, agent_id) ON DELETE CASCADE,
    CONSTRAINT enrolments_device_fkey FOREIGN KEY (device_id, agent_id)
        REFERENCES devices (device_id, agent_id) ON DELETE CASCADE,
    CONSTRAINT enrolments_decision_check CHECK (
        (status = 'pending') = (decided_at IS NULL) AND (decided_at IS NULL) = (decided_by IS NULL)
        AND (status <> 'approved' OR device_id IS NOT NULL)),
    CONSTRAINT enrolments_collected_check CHECK (
        (first_collected_at IS NULL) = (collected_at IS NULL) AND (collected_at IS NULL OR status = 'approved'))
);
CREATE INDEX enrolments_waiting_idx ON enrolments (agent_id, asked_at)
    WHERE status = 'pending' OR (status = 'approved' AND collected_at IS NULL);
CREATE INDEX enrolments_expiry_idx ON enrolments (expires_at)
    WHERE status = 'pending' OR (status = 'approved' AND collected_at IS NULL);
