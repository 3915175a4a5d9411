ALTER TABLE legacy_memberships RENAME TO memberships;
DROP INDEX agent_memberships_one_owner_idx;
-- A row that somebody changed since stays as it is: the change may have taken access away.
DELETE FROM agent_memberships AS a
USING legacy_membership_changes AS c
WHERE c.agent_id = a.agent_id AND c.user_id = a.user_id
  AND c.role_before IS NULL AND a.role = c.role_after AND a.revoked_at IS NULL;
UPDATE agent_memberships AS a SET role = c.role_before
FROM legacy_membership_changes AS c
WHERE c.agent_id = a.agent_id AND c.user_id = a.user_id AND c.role_before IS NOT NULL AND a.role = c.role_after;
DROP TABLE legacy_membership_changes;
DROP TABLE migration_notes;
ALTER TABLE users DROP COLUMN display_name, DROP COLUMN last_seen;
