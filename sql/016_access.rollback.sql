ALTER TABLE denials DROP COLUMN integration_id;
DROP TABLE broker_state;
DROP TABLE traffic;
DROP TABLE broker_retained;
DROP TABLE broker_sessions;
DROP TABLE audit_entries;
DROP TABLE role_assignments;
DROP TABLE role_grants;
DROP TABLE roles;
DELETE FROM credentials WHERE kind = 'integration';
ALTER TABLE credentials
    DROP CONSTRAINT credentials_kind_check,
    DROP CONSTRAINT credentials_owner_check,
    DROP CONSTRAINT credentials_username_check,
    DROP COLUMN integration_id,
    DROP COLUMN sealed,
    ADD CONSTRAINT credentials_kind_check CHECK (kind IN ('device', 'browser', 'hub')),
    ADD CONSTRAINT credentials_owner_check CHECK (
        (kind = 'device' AND device_id IS NOT NULL AND session_id IS NULL)
        OR (kind = 'browser' AND session_id IS NOT NULL AND device_id IS NULL AND expires_at IS NOT NULL)
        OR (kind = 'hub' AND device_id IS NULL AND session_id IS NULL)),
    ADD CONSTRAINT credentials_username_check CHECK ((kind = 'device') = (username ~ '^[a-z0-9][a-z0-9-]{0,62}$'));
ALTER TABLE devices DROP CONSTRAINT devices_agent_key;
DROP TABLE integrations;
