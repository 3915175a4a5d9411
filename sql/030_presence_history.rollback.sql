DROP TABLE presence_watches;
DROP TABLE presence_history;
-- The older schema has neither a word for what nobody knows nor a witness that is another device.
UPDATE device_presence SET verdict = 'offline' WHERE verdict = 'unknown';
UPDATE device_presence SET source = 'mqtt' WHERE source = 'proxy';
DROP INDEX device_presence_flapping_idx;
ALTER TABLE device_presence
    DROP COLUMN unrest,
    DROP COLUMN unrest_at,
    DROP COLUMN flapping,
    DROP CONSTRAINT device_presence_verdict_check,
    DROP CONSTRAINT device_presence_source_check,
    ADD CONSTRAINT device_presence_verdict_check CHECK (verdict IN ('online', 'suspect', 'offline', 'sleeping')),
    ADD CONSTRAINT device_presence_source_check CHECK (source IN ('mqtt', 'http'));
