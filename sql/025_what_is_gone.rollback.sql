DROP INDEX commands_agent_idx;
-- The older schema has no name for a space that is gone.
UPDATE events SET space_id = NULL
WHERE space_id IS NOT NULL AND NOT EXISTS (SELECT FROM spaces AS s WHERE s.space_id = events.space_id);
ALTER TABLE events
    ADD CONSTRAINT events_space_id_fkey FOREIGN KEY (space_id) REFERENCES spaces (space_id) ON DELETE CASCADE;
DROP TABLE retired_spaces;
