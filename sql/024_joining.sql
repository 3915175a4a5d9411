-- Somebody who has an account already joins a further agent by a link of its own: being named makes nobody a member,
-- for whoever made an account with a foreign address must get nowhere with it.

ALTER TABLE one_time_links
    ADD COLUMN agent_id uuid REFERENCES agents (agent_id) ON DELETE CASCADE,
    ADD COLUMN role text CHECK (role IN ('guest', 'member', 'admin')),
    ADD COLUMN invited_by text,
    DROP CONSTRAINT one_time_links_purpose_check,
    ADD CONSTRAINT one_time_links_purpose_check CHECK (purpose IN ('setup', 'invite', 'reset', 'join')),
    ADD CONSTRAINT one_time_links_join_check CHECK (
        num_nonnulls(agent_id, role, invited_by) = CASE WHEN purpose = 'join' THEN 3 ELSE 0 END);
CREATE UNIQUE INDEX one_time_links_join_idx ON one_time_links (agent_id, user_id) WHERE purpose = 'join' AND used_at IS NULL;
