DROP TABLE retired_handles;
ALTER TABLE devices
    DROP CONSTRAINT devices_deleted_check,
    DROP COLUMN deleted_by,
    DROP COLUMN deleted_at,
    DROP COLUMN revision;
ALTER TABLE spaces DROP COLUMN revision;
ALTER TABLE agents
    DROP CONSTRAINT agents_deleted_check,
    DROP COLUMN deleted_by,
    DROP COLUMN deleted_at,
    DROP COLUMN revision,
    DROP COLUMN about;
