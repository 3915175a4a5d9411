-- A remote is a device: every row of `remotes` becomes one, and remote_device_map says which.
--
-- A remote never had a token, and a device must have the hash of one. It gets a hash that no token can have (no hash
-- function gives this form, and it holds 244 random bits), so that the device is refused until somebody enrols it.

CREATE TABLE remote_device_map (
    remote_id uuid PRIMARY KEY,
    device_id uuid NOT NULL UNIQUE REFERENCES devices (device_id) ON DELETE CASCADE
);

WITH chosen AS MATERIALIZED (
    SELECT gen_random_uuid() AS device_id, remotes.*
    FROM remotes
    WHERE NOT EXISTS (SELECT FROM remote_device_map AS map WHERE map.remote_id = remotes.remote_id)
), made AS (
    INSERT INTO devices (device_id, agent_id, name, capabilities, scopes, token_hash, created_at, last_seen, metadata)
    SELECT device_id, agent_id, name, coalesce(capabilities, '{}'::jsonb),
           '["events:write", "presence:write"]'::jsonb,
           'unusable:' || gen_random_uuid() || ':' || gen_random_uuid(),
           coalesce(created_at, now()), last_seen,
           jsonb_build_object('is_remote', true,
                              'address', address,
                              'connection_type', connection_type,
                              'migrated_from_remote_id', remote_id,
                              'needs_enrolment', true)
    FROM chosen
    RETURNING device_id
)
INSERT INTO remote_device_map (remote_id, device_id)
SELECT chosen.remote_id, made.device_id FROM made JOIN chosen ON chosen.device_id = made.device_id;

INSERT INTO migration_notes (migration, subject, note)
SELECT '007_remotes_to_devices', 'remote ' || remote_id, odd.note
FROM (SELECT remote_id, name, address, count(*) OVER (PARTITION BY agent_id, name) AS bearers FROM remotes) AS r
CROSS JOIN LATERAL (VALUES
    (coalesce(btrim(name), '') = '', 'has no name'),
    (coalesce(btrim(name), '') <> '' AND bearers > 1, format('shares the name %L with %s more', name, bearers - 1)),
    (coalesce(btrim(address), '') = '', 'has no address')) AS odd (applies, note)
WHERE odd.applies
ORDER BY remote_id, odd.note;

DO $$
DECLARE
    remote_count bigint;
    device_count bigint;
BEGIN
    SELECT count(*) INTO remote_count FROM remotes;
    SELECT count(*) INTO device_count
    FROM remotes AS r
    JOIN remote_device_map AS map ON map.remote_id = r.remote_id
    JOIN devices AS d ON d.device_id = map.device_id
    WHERE d.agent_id = r.agent_id
      AND d.name IS NOT DISTINCT FROM r.name
      AND d.metadata ->> 'address' IS NOT DISTINCT FROM r.address
      AND d.metadata ->> 'migrated_from_remote_id' = r.remote_id::text
      AND d.token_hash LIKE 'unusable:%';
    IF remote_count <> device_count THEN
        RAISE EXCEPTION 'remotes: % rows, but % devices', remote_count, device_count;
    END IF;
    IF remote_count > 0 THEN
        INSERT INTO migration_notes (migration, subject, note)
        VALUES ('007_remotes_to_devices', 'remotes', format('%s remotes became devices', remote_count));
    END IF;
END
$$;

ALTER TABLE remotes RENAME TO legacy_remotes;
