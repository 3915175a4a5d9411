DROP TABLE device_config_history;
DROP TABLE device_config;
DROP INDEX commands_batch_idx;
ALTER TABLE commands DROP CONSTRAINT commands_batch_fkey, DROP COLUMN batch_id;
DROP TABLE batch_skips;
DROP TABLE command_batches;
DROP TABLE device_tags;
DROP INDEX outbox_command_idx;
DROP INDEX commands_finished_idx;
-- The steps keep that they were cancelled.
UPDATE commands SET status = 'expired' WHERE status = 'cancelled';
ALTER TABLE commands
    DROP CONSTRAINT commands_status_check,
    DROP CONSTRAINT commands_finished_check,
    ADD CONSTRAINT commands_status_check CHECK (status IN (
        'queued', 'sent', 'accepted', 'running', 'succeeded', 'failed', 'rejected', 'expired', 'unknown', 'late')),
    ADD CONSTRAINT commands_finished_check CHECK (
        (finished_at IS NOT NULL) = (status IN ('succeeded', 'failed', 'rejected', 'expired', 'unknown', 'late')));
