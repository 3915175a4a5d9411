-- Users get a name and a last visit, and the two tables of memberships become one: agent_memberships.
--
-- Rows of the older `memberships` are copied, not forgotten. Wherever the two disagree, the rule that gives less access
-- wins: a row in agent_memberships stands as it is, unless the older one says "blocked"; a revoked row stays revoked;
-- a role that nobody knows becomes "guest". Everything that was not copied word for word is told in migration_notes.

ALTER TABLE users
    ADD COLUMN display_name text,
    ADD COLUMN last_seen timestamptz;

CREATE TABLE migration_notes (
    note_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    migration text NOT NULL,
    subject text NOT NULL,
    note text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- What happened to each row of agent_memberships, for the rollback: no role_before means that the row was made here.
CREATE TABLE legacy_membership_changes (
    agent_id uuid NOT NULL REFERENCES agents (agent_id) ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    role_before text,
    role_after text NOT NULL,
    PRIMARY KEY (agent_id, user_id)
);

CREATE TEMPORARY TABLE membership_copy AS
SELECT m.agent_id, m.user_id, m.role AS role_found, m.relationship_label, m.created_at,
       tidy.role IN ('owner', 'admin', 'member', 'guest', 'blocked') AS role_known,
       CASE WHEN tidy.role IN ('owner', 'admin', 'member', 'guest', 'blocked') THEN tidy.role ELSE 'guest' END AS role,
       a.agent_id IS NOT NULL AND u.user_id IS NOT NULL AS both_exist,
       present.role AS role_present,
       present.revoked_at AS revoked_present,
       'agent ' || m.agent_id || ', user ' || m.user_id AS subject
FROM memberships AS m
CROSS JOIN LATERAL (SELECT lower(regexp_replace(coalesce(m.role, ''), '^\s+|\s+$', '', 'g')) AS role) AS tidy
LEFT JOIN agents AS a ON a.agent_id = m.agent_id
LEFT JOIN users AS u ON u.user_id = m.user_id
LEFT JOIN agent_memberships AS present ON present.agent_id = m.agent_id AND present.user_id = m.user_id;

INSERT INTO migration_notes (migration, subject, note)
SELECT '005_users_columns_and_legacy_cleanup', subject,
       CASE WHEN NOT both_exist THEN 'not copied: the user or the agent does not exist; the row stays in legacy_memberships'
            WHEN role_present <> 'blocked' AND role = 'blocked' THEN
                format('the older table says blocked, so the role %s became blocked', role_present)
            WHEN role_present IS NOT NULL THEN
                format('not copied: agent_memberships has %s%s, the older table had %s', role_present,
                       CASE WHEN revoked_present IS NULL THEN '' ELSE ' (revoked)' END, coalesce(quote_literal(role_found), 'no role'))
            WHEN NOT role_known THEN
                format('the role %s is not known and became guest', coalesce(quote_literal(role_found), '(none)'))
            ELSE format('the role %L became %s', role_found, role) END
FROM membership_copy
WHERE NOT both_exist OR role_found IS DISTINCT FROM role OR role_present <> role
   OR (role_present IS NOT NULL AND revoked_present IS NOT NULL)
ORDER BY subject;

WITH copied AS (
    INSERT INTO agent_memberships (agent_id, user_id, role, relationship_label, created_at)
    SELECT agent_id, user_id, role, relationship_label, coalesce(created_at, now())
    FROM membership_copy
    WHERE both_exist AND role_present IS NULL
    RETURNING agent_id, user_id, role
)
INSERT INTO legacy_membership_changes (agent_id, user_id, role_before, role_after)
SELECT agent_id, user_id, NULL, role FROM copied;

INSERT INTO legacy_membership_changes (agent_id, user_id, role_before, role_after)
SELECT agent_id, user_id, role_present, 'blocked'
FROM membership_copy
WHERE both_exist AND role = 'blocked' AND role_present <> 'blocked';

UPDATE agent_memberships AS a SET role = 'blocked'
FROM legacy_membership_changes AS c
WHERE c.agent_id = a.agent_id AND c.user_id = a.user_id AND c.role_before IS NOT NULL;

-- One owner per agent: the one of longest standing in either table; the others become admins.
CREATE TEMPORARY TABLE surplus_owner AS
SELECT agent_id, user_id
FROM (SELECT a.agent_id, a.user_id,
             row_number() OVER (PARTITION BY a.agent_id
                                ORDER BY least(a.created_at, c.created_at), a.user_id) AS standing
      FROM agent_memberships AS a
      LEFT JOIN membership_copy AS c ON c.agent_id = a.agent_id AND c.user_id = a.user_id AND c.role = 'owner'
      WHERE a.role = 'owner' AND a.revoked_at IS NULL) AS ranked
WHERE standing > 1;

INSERT INTO legacy_membership_changes (agent_id, user_id, role_before, role_after)
SELECT agent_id, user_id, 'owner', 'admin' FROM surplus_owner
ON CONFLICT (agent_id, user_id) DO UPDATE SET role_after = 'admin';

INSERT INTO migration_notes (migration, subject, note)
SELECT '005_users_columns_and_legacy_cleanup', 'agent ' || agent_id || ', user ' || user_id,
       'the agent had several owners: the earliest stays, this one became admin'
FROM surplus_owner ORDER BY agent_id, user_id;

UPDATE agent_memberships AS a SET role = 'admin'
FROM surplus_owner AS s WHERE s.agent_id = a.agent_id AND s.user_id = a.user_id;

CREATE UNIQUE INDEX agent_memberships_one_owner_idx ON agent_memberships (agent_id)
    WHERE role = 'owner' AND revoked_at IS NULL;

-- Count before the old name goes: nobody may be lost, nobody may have got more than a table gave.
DO $$
DECLARE
    found bigint;
    copied bigint;
    present bigint;
    dangling bigint;
    wrong bigint;
BEGIN
    SELECT count(*) INTO found FROM memberships;
    SELECT count(*) INTO copied FROM legacy_membership_changes WHERE role_before IS NULL;
    SELECT count(*) FILTER (WHERE both_exist AND role_present IS NOT NULL), count(*) FILTER (WHERE NOT both_exist)
    INTO present, dangling FROM membership_copy;
    IF found <> copied + present + dangling THEN
        RAISE EXCEPTION 'memberships: % rows, but % copied, % present and % dangling', found, copied, present, dangling;
    END IF;

    SELECT count(*) INTO wrong
    FROM membership_copy AS c
    LEFT JOIN agent_memberships AS a ON a.agent_id = c.agent_id AND a.user_id = c.user_id
    LEFT JOIN surplus_owner AS s ON s.agent_id = c.agent_id AND s.user_id = c.user_id
    WHERE c.both_exist
      AND (a.revoked_at IS DISTINCT FROM c.revoked_present
           OR a.role IS DISTINCT FROM CASE WHEN c.role = 'blocked' THEN 'blocked'
                                           WHEN s.user_id IS NOT NULL THEN 'admin'
                                           ELSE coalesce(c.role_present, c.role) END);
    IF wrong > 0 THEN
        RAISE EXCEPTION 'memberships: % rows arrived with another role than they should have', wrong;
    END IF;

    SELECT count(*) INTO wrong
    FROM surplus_owner AS s
    WHERE NOT EXISTS (SELECT FROM agent_memberships AS a
                      WHERE a.agent_id = s.agent_id AND a.role = 'owner' AND a.revoked_at IS NULL);
    IF wrong > 0 THEN
        RAISE EXCEPTION 'memberships: % agents lost their owner', wrong;
    END IF;

    IF found > 0 THEN
        INSERT INTO migration_notes (migration, subject, note)
        VALUES ('005_users_columns_and_legacy_cleanup', 'memberships',
                format('%s rows: %s copied, %s present already, %s without their user or agent',
                       found, copied, present, dangling));
    END IF;
END
$$;

DROP TABLE surplus_owner;
DROP TABLE membership_copy;
ALTER TABLE memberships RENAME TO legacy_memberships;
