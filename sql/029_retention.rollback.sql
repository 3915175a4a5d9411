DROP INDEX commands_agent_time_idx;
CREATE INDEX commands_agent_idx ON commands (agent_id);
DROP TABLE agent_retention;
