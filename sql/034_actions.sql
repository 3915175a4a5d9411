-- Actions: who proposed them and why, who decided, what is done; a status only with what it needs, and forward only.

-- What an earlier system left in the middle: nobody knows how far it came, and nothing of it is ever done.
INSERT INTO migration_notes (migration, subject, note)
SELECT '034_actions', 'action ' || action_id, format('the status %L became %L', status, 'unknown')
FROM actions WHERE status IN ('approved', 'executing') ORDER BY action_id;
-- As they were, for the rollback.
CREATE TABLE legacy_unfinished_actions (
    action_id uuid PRIMARY KEY REFERENCES actions (action_id) ON DELETE CASCADE,
    status text NOT NULL,
    approved_at timestamptz,
    completed_at timestamptz
);
INSERT INTO legacy_unfinished_actions (action_id, status, approved_at, completed_at)
SELECT action_id, status, approved_at, completed_at FROM actions WHERE status <> 'proposed';
UPDATE actions SET status = 'unknown' WHERE status IN ('approved', 'executing');
UPDATE actions SET completed_at = coalesce(executed_at, updated_at)
WHERE status <> 'proposed' AND completed_at IS NULL;

ALTER TABLE actions
    -- The principal, as in `idempotency_keys`, and its name as people know it.
    ADD COLUMN proposer text NOT NULL DEFAULT 'legacy',
    ADD COLUMN proposed_by text NOT NULL DEFAULT 'an earlier system',
    ADD COLUMN proposer_kind text NOT NULL DEFAULT 'system'
        CHECK (proposer_kind IN ('person', 'device', 'integration', 'policy', 'system')),
    ADD COLUMN why text NOT NULL DEFAULT '' CHECK (length(why) <= 1000),
    -- An event has its time, and is gone then: the action outlives it.
    ADD COLUMN cause_event_id uuid,
    ADD COLUMN device_id uuid,
    ADD COLUMN risk text NOT NULL DEFAULT 'high' CHECK (risk IN ('low', 'medium', 'high')),
    ADD COLUMN expires_at timestamptz NOT NULL DEFAULT now() + interval '1 day',
    -- Of tool, arguments, agent and space: what is approved is what runs.
    ADD COLUMN digest text NOT NULL DEFAULT 'legacy',
    -- As it was proposed, whatever people edited since: what the idempotency key stands for.
    ADD COLUMN proposed_digest text NOT NULL DEFAULT 'legacy',
    ADD COLUMN approved_digest text,
    ADD COLUMN approvals_needed smallint NOT NULL DEFAULT 1 CHECK (approvals_needed BETWEEN 1 AND 9),
    ADD COLUMN decided_by text,
    ADD COLUMN decided_kind text CHECK (decided_kind IN ('person', 'device', 'integration', 'policy', 'system')),
    ADD COLUMN decision_reason text,
    ADD COLUMN policy jsonb,
    ADD COLUMN idempotency_key text CHECK (length(idempotency_key) BETWEEN 1 AND 200),
    -- Rises with every edit of the arguments.
    ADD COLUMN revision integer NOT NULL DEFAULT 1 CHECK (revision > 0),
    ADD COLUMN attempt smallint NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    ADD COLUMN run_after timestamptz,
    ADD COLUMN lease uuid,
    ADD COLUMN lease_until timestamptz,
    ADD CONSTRAINT actions_agent_key UNIQUE (action_id, agent_id),
    ADD CONSTRAINT actions_device_fkey FOREIGN KEY (device_id, agent_id)
        REFERENCES devices (device_id, agent_id) ON DELETE SET NULL (device_id);

UPDATE actions SET approved_at = coalesce(approved_at, executed_at, updated_at), approved_digest = 'legacy'
WHERE status = 'executed';

ALTER TABLE actions
    ADD CONSTRAINT actions_approved_check CHECK (status NOT IN ('approved', 'executing', 'executed')
        OR (approved_at IS NOT NULL AND approved_digest IS NOT NULL)),
    ADD CONSTRAINT actions_lease_check CHECK (
        (status = 'executing') = (lease IS NOT NULL) AND (lease IS NULL) = (lease_until IS NULL)),
    ADD CONSTRAINT actions_completed_check CHECK (
        (completed_at IS NULL) = (status IN ('proposed', 'approved', 'executing')));

CREATE UNIQUE INDEX actions_key_idx ON actions (agent_id, proposer, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX actions_due_idx ON actions (expires_at) WHERE status IN ('proposed', 'approved');
CREATE INDEX actions_lease_idx ON actions (lease_until) WHERE status = 'executing';
CREATE INDEX actions_page_idx ON actions (agent_id, created_at DESC, action_id DESC);

-- `hub/actions/states.py` has the same table, and a test compares them.
CREATE FUNCTION actions_go_forward() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT (CASE OLD.status
            WHEN 'proposed' THEN NEW.status IN ('approved', 'rejected', 'expired', 'cancelled')
            WHEN 'approved' THEN NEW.status IN ('executing', 'expired', 'cancelled')
            WHEN 'executing' THEN NEW.status IN ('executed', 'failed', 'unknown', 'approved')
            WHEN 'unknown' THEN NEW.status IN ('executed', 'failed')
            ELSE false END) THEN
        RAISE EXCEPTION 'an action that is % does not become %', OLD.status, NEW.status
            USING ERRCODE = 'check_violation', CONSTRAINT = 'actions_forward_only';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER actions_forward_only BEFORE UPDATE OF status ON actions
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION actions_go_forward();

CREATE TABLE action_steps (
    step_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    action_id uuid NOT NULL,
    agent_id uuid NOT NULL,
    -- A status, or what happened within one: `edited`, `approval`, `sent`, `retried`, `late`.
    step text NOT NULL CHECK (step ~ '^[a-z_]{1,30}$'),
    witness text NOT NULL,
    note text NOT NULL DEFAULT '',
    detail jsonb,
    at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT action_steps_action_fkey FOREIGN KEY (action_id, agent_id)
        REFERENCES actions (action_id, agent_id) ON DELETE CASCADE
);
CREATE INDEX action_steps_action_idx ON action_steps (action_id);

-- One word of each who says yes, bound to what they saw.
CREATE TABLE action_approvals (
    action_id uuid NOT NULL,
    agent_id uuid NOT NULL,
    principal text NOT NULL,
    label text NOT NULL,
    digest text NOT NULL,
    reason text NOT NULL DEFAULT '' CHECK (length(reason) <= 1000),
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (action_id, principal),
    CONSTRAINT action_approvals_action_fkey FOREIGN KEY (action_id, agent_id)
        REFERENCES actions (action_id, agent_id) ON DELETE CASCADE
);

-- Who decides on what, for agents that want it otherwise than by default.
CREATE TABLE approval_rules (
    agent_id uuid PRIMARY KEY REFERENCES agents (agent_id) ON DELETE CASCADE,
    revision integer NOT NULL DEFAULT 1 CHECK (revision > 0),
    low_role text NOT NULL CHECK (low_role IN ('member', 'admin', 'owner')),
    medium_role text NOT NULL CHECK (medium_role IN ('member', 'admin', 'owner')),
    high_role text NOT NULL CHECK (high_role IN ('member', 'admin', 'owner')),
    low_approvals smallint NOT NULL CHECK (low_approvals BETWEEN 1 AND 9),
    medium_approvals smallint NOT NULL CHECK (medium_approvals BETWEEN 1 AND 9),
    high_approvals smallint NOT NULL CHECK (high_approvals BETWEEN 1 AND 9),
    expires_s double precision NOT NULL CHECK (expires_s BETWEEN 60 AND 2592000)
);

-- A command that is sent for an action tells it how it ended.
ALTER TABLE commands
    ADD COLUMN action_id uuid,
    ADD CONSTRAINT commands_action_fkey FOREIGN KEY (action_id, agent_id)
        REFERENCES actions (action_id, agent_id) ON DELETE SET NULL (action_id);
CREATE INDEX commands_action_idx ON commands (action_id) WHERE action_id IS NOT NULL;

ALTER TABLE feed_entries
    DROP CONSTRAINT feed_entries_feed_check,
    ADD CONSTRAINT feed_entries_feed_check CHECK (feed IN (
        'presence', 'devices', 'events', 'commands', 'actions', 'denials'));
