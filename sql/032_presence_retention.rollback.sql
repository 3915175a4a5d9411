ALTER TABLE agent_retention DROP COLUMN presence_days;
