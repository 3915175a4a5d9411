UPDATE devices SET scopes = metadata -> 'legacy_scopes' WHERE metadata -> 'legacy_scopes' IS NOT NULL;
DELETE FROM migration_notes WHERE migration = '006_devices_enhancement';
ALTER TABLE devices
    DROP COLUMN metadata,
    DROP COLUMN last_hello_at,
    DROP COLUMN last_heartbeat_at;
