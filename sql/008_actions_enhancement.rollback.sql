ALTER TABLE actions DROP CONSTRAINT actions_status_check;
-- An action that went on since keeps its newer status.
UPDATE actions SET status = legacy.status_before
FROM legacy_action_statuses AS legacy
WHERE legacy.action_id = actions.action_id AND actions.status = legacy.status_after;
DROP TABLE legacy_action_statuses;
DELETE FROM migration_notes WHERE migration = '008_actions_enhancement';
ALTER TABLE actions
    DROP COLUMN approved_by,
    DROP COLUMN approved_at,
    DROP COLUMN result,
    DROP COLUMN error,
    DROP COLUMN completed_at;
