ALTER TABLE agent_retention DROP COLUMN actions_days;
