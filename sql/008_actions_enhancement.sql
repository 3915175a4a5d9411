-- Actions say who approved them, when they ended, and with what; and their status is one of a closed list.

ALTER TABLE actions
    ADD COLUMN approved_by uuid REFERENCES users (user_id) ON DELETE SET NULL,
    ADD COLUMN approved_at timestamptz,
    ADD COLUMN result jsonb,
    ADD COLUMN error text,
    ADD COLUMN completed_at timestamptz;

-- The earlier status of each action whose status is not on the list, for the rollback.
CREATE TABLE legacy_action_statuses (
    action_id uuid PRIMARY KEY REFERENCES actions (action_id) ON DELETE CASCADE,
    status_before text NOT NULL,
    status_after text NOT NULL
);

-- "unknown" is where nothing is done any more: a status that nobody can read must never set an action going.
INSERT INTO legacy_action_statuses (action_id, status_before, status_after)
SELECT action_id, actions.status,
       CASE WHEN tidy.status IN ('proposed', 'approved', 'executing', 'executed', 'failed', 'rejected', 'expired',
                                 'cancelled', 'unknown') THEN tidy.status
            WHEN tidy.status = 'canceled' THEN 'cancelled'
            ELSE 'unknown' END
FROM actions
CROSS JOIN LATERAL (SELECT lower(regexp_replace(actions.status, '^\s+|\s+$', '', 'g'))) AS tidy (status)
WHERE actions.status NOT IN ('proposed', 'approved', 'executing', 'executed', 'failed', 'rejected', 'expired',
                             'cancelled', 'unknown');

UPDATE actions SET status = legacy.status_after
FROM legacy_action_statuses AS legacy WHERE legacy.action_id = actions.action_id;

INSERT INTO migration_notes (migration, subject, note)
SELECT '008_actions_enhancement', 'action ' || action_id,
       format('the status %L became %s', status_before, status_after)
FROM legacy_action_statuses ORDER BY action_id;

ALTER TABLE actions ADD CONSTRAINT actions_status_check CHECK (status IN (
    'proposed', 'approved', 'executing', 'executed', 'failed', 'rejected', 'expired', 'cancelled', 'unknown'));
