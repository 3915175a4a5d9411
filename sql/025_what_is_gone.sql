-- What is gone is still told by its name: events outlive the space in which they happened.

ALTER TABLE events DROP CONSTRAINT events_space_id_fkey;

CREATE TABLE retired_spaces (
    space_id uuid PRIMARY KEY,
    agent_id uuid NOT NULL REFERENCES agents (agent_id) ON DELETE CASCADE,
    name text NOT NULL,
    retired_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX retired_spaces_agent_idx ON retired_spaces (agent_id);

-- The rows of a deleted agent are looked up again and again while they go.
CREATE INDEX commands_agent_idx ON commands (agent_id);
