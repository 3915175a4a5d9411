-- For how many days each agent keeps what it gathers. Without a row the defaults of the hub hold (hub/retention.py).

CREATE TABLE agent_retention (
    agent_id uuid PRIMARY KEY REFERENCES agents (agent_id) ON DELETE CASCADE,
    events_days integer NOT NULL CHECK (events_days BETWEEN 1 AND 3650),
    telemetry_days integer NOT NULL CHECK (telemetry_days BETWEEN 7 AND 3650),
    commands_days integer NOT NULL CHECK (commands_days BETWEEN 1 AND 3650),
    denials_days integer NOT NULL CHECK (denials_days BETWEEN 1 AND 3650),
    dead_letters_days integer NOT NULL CHECK (dead_letters_days BETWEEN 1 AND 3650),
    revision integer NOT NULL DEFAULT 1
);

-- The oldest of an agent are found without reading the rest.
DROP INDEX commands_agent_idx;
CREATE INDEX commands_agent_time_idx ON commands (agent_id, created_at);
