-- Devices get free facts about themselves, and the times of their last hello and heartbeat.

ALTER TABLE devices
    ADD COLUMN metadata jsonb NOT NULL DEFAULT '{}'::jsonb,
    ADD COLUMN last_hello_at timestamptz,
    ADD COLUMN last_heartbeat_at timestamptz;

-- Scopes are a list of names. What else stands there grants nothing; the earlier value is kept for the rollback.
WITH odd AS (
    SELECT device_id, scopes,
           coalesce((SELECT jsonb_agg(element ORDER BY place)
                     FROM jsonb_array_elements(CASE jsonb_typeof(scopes) WHEN 'array' THEN scopes ELSE '[]'::jsonb END)
                          WITH ORDINALITY AS list (element, place)
                     WHERE jsonb_typeof(element) = 'string'), '[]'::jsonb) AS names
    FROM devices
), changed AS (
    UPDATE devices AS d SET scopes = odd.names, metadata = jsonb_build_object('legacy_scopes', odd.scopes)
    FROM odd
    WHERE odd.device_id = d.device_id AND odd.names <> odd.scopes
    RETURNING d.device_id, odd.scopes AS scopes_before, odd.names
)
INSERT INTO migration_notes (migration, subject, note)
SELECT '006_devices_enhancement', 'device ' || device_id, format('the scopes %s became %s', scopes_before, names)
FROM changed ORDER BY device_id;
