DROP INDEX audit_entries_actor_idx;
DROP INDEX audit_entries_action_idx;
DROP TRIGGER audit_entries_stay_all ON audit_entries;
DROP TRIGGER audit_entries_stay ON audit_entries;
DROP FUNCTION audit_entries_stay();
-- The older schema has no place for what was done to an agent that is gone.
DELETE FROM audit_entries AS e
WHERE e.agent_id IS NOT NULL AND NOT EXISTS (SELECT FROM agents AS a WHERE a.agent_id = e.agent_id);
ALTER TABLE audit_entries
    DROP CONSTRAINT audit_entries_chain_key,
    DROP CONSTRAINT audit_entries_chained_check,
    DROP COLUMN hash,
    DROP COLUMN prev_hash,
    DROP COLUMN seq,
    DROP COLUMN actor_kind,
    DROP COLUMN chain,
    ADD CONSTRAINT audit_entries_agent_id_fkey FOREIGN KEY (agent_id) REFERENCES agents (agent_id) ON DELETE CASCADE;
DROP TABLE audit_chains;
