ALTER TABLE legacy_remotes RENAME TO remotes;
-- What happened since under such a device stays; only its link to the device goes.
DELETE FROM devices USING remote_device_map AS map WHERE map.device_id = devices.device_id;
DROP TABLE remote_device_map;
DELETE FROM migration_notes WHERE migration = '007_remotes_to_devices';
