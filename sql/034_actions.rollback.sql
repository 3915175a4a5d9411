-- A page that misses an entry reads everything anew.
DELETE FROM feed_entries WHERE feed = 'actions';
ALTER TABLE feed_entries
    DROP CONSTRAINT feed_entries_feed_check,
    ADD CONSTRAINT feed_entries_feed_check CHECK (feed IN ('presence', 'devices', 'events', 'commands', 'denials'));
DROP TRIGGER actions_forward_only ON actions;
DROP FUNCTION actions_go_forward();
DELETE FROM migration_notes WHERE migration = '034_actions';
ALTER TABLE commands DROP CONSTRAINT commands_action_fkey, DROP COLUMN action_id;
DROP TABLE approval_rules, action_approvals, action_steps;
DROP INDEX actions_key_idx, actions_due_idx, actions_lease_idx, actions_page_idx;
ALTER TABLE actions
    DROP CONSTRAINT actions_agent_key, DROP CONSTRAINT actions_device_fkey, DROP CONSTRAINT actions_approved_check,
    DROP CONSTRAINT actions_lease_check, DROP CONSTRAINT actions_completed_check,
    DROP COLUMN proposer, DROP COLUMN proposed_by, DROP COLUMN proposer_kind, DROP COLUMN why,
    DROP COLUMN cause_event_id, DROP COLUMN device_id, DROP COLUMN risk, DROP COLUMN expires_at, DROP COLUMN digest,
    DROP COLUMN proposed_digest, DROP COLUMN approved_digest, DROP COLUMN approvals_needed, DROP COLUMN decided_by, DROP COLUMN decided_kind,
    DROP COLUMN decision_reason, DROP COLUMN policy, DROP COLUMN idempotency_key, DROP COLUMN revision,
    DROP COLUMN attempt, DROP COLUMN run_after, DROP COLUMN lease, DROP COLUMN lease_until;
UPDATE actions SET status = was.status, approved_at = was.approved_at, completed_at = was.completed_at
FROM legacy_unfinished_actions AS was WHERE was.action_id = actions.action_id;
DROP TABLE legacy_unfinished_actions;
