-- How long an agent keeps what was known of its devices' connections; the hub keeps it for 30 days at most.
ALTER TABLE agent_retention
    ADD COLUMN presence_days integer NOT NULL DEFAULT 30 CHECK (presence_days BETWEEN 1 AND 30);
