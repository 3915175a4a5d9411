DELETE FROM one_time_links WHERE purpose = 'join';
ALTER TABLE one_time_links
    DROP CONSTRAINT one_time_links_join_check,
    DROP CONSTRAINT one_time_links_purpose_check,
    ADD CONSTRAINT one_time_links_purpose_check CHECK (purpose IN ('setup', 'invite', 'reset')),
    DROP COLUMN invited_by,
    DROP COLUMN role,
    DROP COLUMN agent_id;
