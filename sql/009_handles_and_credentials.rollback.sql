DROP TABLE credentials;
DROP TABLE user_sessions;
ALTER TABLE devices ADD COLUMN token_hash text;
UPDATE devices SET token_hash = legacy_device_tokens.token_hash
FROM legacy_device_tokens WHERE legacy_device_tokens.device_id = devices.device_id;
-- A device made since has no old hash: a random one that no token can match.
UPDATE devices SET token_hash = 'unusable:' || gen_random_uuid() || gen_random_uuid() WHERE token_hash IS NULL;
ALTER TABLE devices ALTER COLUMN token_hash SET NOT NULL, ADD CONSTRAINT devices_token_hash_key UNIQUE (token_hash);
ALTER TABLE devices
    DROP CONSTRAINT devices_scopes_check,
    DROP CONSTRAINT devices_name_check,
    ALTER COLUMN name DROP NOT NULL;
-- Names that were made up from the handle and that nobody changed since.
UPDATE devices SET name = legacy_device_tokens.name
FROM legacy_device_tokens
WHERE legacy_device_tokens.device_id = devices.device_id AND devices.name = devices.handle;
DROP TABLE legacy_device_tokens;
ALTER TABLE devices
    DROP COLUMN handle,
    DROP COLUMN space_id,
    DROP COLUMN needs_enrolment,
    DROP COLUMN revoked_by,
    DROP COLUMN revoked_reason;
