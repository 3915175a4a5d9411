ALTER TABLE devices
    ADD COLUMN last_seen timestamptz,
    ADD COLUMN last_hello_at timestamptz,
    ADD COLUMN last_heartbeat_at timestamptz;
UPDATE devices
SET last_seen = p.last_heard_at, last_hello_at = p.last_hello_at, last_heartbeat_at = p.last_heartbeat_at
FROM device_presence AS p WHERE p.device_id = devices.device_id;
DROP TABLE device_presence;
