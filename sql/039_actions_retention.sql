-- Actions that are over have their time as well; the audit keeps who decided what.

ALTER TABLE agent_retention ADD COLUMN actions_days integer NOT NULL DEFAULT 365 CHECK (actions_days BETWEEN 1 AND 3650);
