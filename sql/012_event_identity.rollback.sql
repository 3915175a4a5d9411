-- The older schema has a space for every event: those without one go to a space of that name.
INSERT INTO spaces (agent_id, name)
SELECT DISTINCT agent_id, 'Events without a space' FROM events WHERE space_id IS NULL;
UPDATE events SET space_id = spaces.space_id
FROM spaces
WHERE events.space_id IS NULL AND spaces.agent_id = events.agent_id AND spaces.name = 'Events without a space';
DROP INDEX events_agent_no_idx;
ALTER TABLE events
    DROP CONSTRAINT events_message_id_key,
    DROP CONSTRAINT events_event_no_key,
    ALTER COLUMN space_id SET NOT NULL,
    DROP COLUMN event_no,
    DROP COLUMN message_id,
    DROP COLUMN epoch,
    DROP COLUMN seq,
    DROP COLUMN happened_at;
