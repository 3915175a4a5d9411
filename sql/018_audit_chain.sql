-- The audit becomes a chain for each agent, and one for the hub: every entry holds the hash of the one before it, and the
-- head of a chain says how long it is and how it ends. An entry is never altered or removed, whoever goes.

CREATE TABLE audit_chains (
    -- The agent's id; for the hub's own chain, all zeros.
    chain uuid PRIMARY KEY,
    seq bigint NOT NULL DEFAULT 0 CHECK (seq >= 0),
    hash text NOT NULL DEFAULT '',
    updated_at timestamptz NOT NULL DEFAULT now(),
    -- When somebody last looked whether it is whole, up to where, and how much was wrong.
    verified_at timestamptz,
    verified_by text,
    verified_seq bigint,
    verified_faults integer,
    CONSTRAINT audit_chains_verified_check CHECK (
        num_nonnulls(verified_at, verified_by, verified_seq, verified_faults) IN (0, 4))
);

ALTER TABLE audit_entries
    -- What was done to an agent is told after the agent is gone.
    DROP CONSTRAINT audit_entries_agent_id_fkey,
    ADD COLUMN chain uuid GENERATED ALWAYS AS (coalesce(agent_id, '00000000-0000-0000-0000-000000000000'::uuid)) STORED,
    ADD COLUMN actor_kind text NOT NULL DEFAULT 'system'
        CHECK (actor_kind IN ('person', 'device', 'integration', 'policy', 'system')),
    -- Given at the end of the transaction that wrote the entry: 1, 2, 3 … without a gap.
    ADD COLUMN seq bigint CHECK (seq > 0),
    ADD COLUMN prev_hash text,
    ADD COLUMN hash text,
    ADD CONSTRAINT audit_entries_chained_check CHECK (num_nonnulls(seq, prev_hash, hash) IN (0, 3)),
    ADD CONSTRAINT audit_entries_chain_key UNIQUE (chain, seq);

UPDATE audit_entries SET actor_kind = 'person' WHERE actor LIKE '%@%';

-- What was written so far is chained in the order in which it was written.
DO $$
DECLARE
    entry record;
    head record;
    line text;
BEGIN
    FOR entry IN SELECT * FROM audit_entries ORDER BY entry_id LOOP
        INSERT INTO audit_chains (chain) VALUES (entry.chain) ON CONFLICT DO NOTHING;
        SELECT * INTO head FROM audit_chains WHERE chain = entry.chain;
        line := jsonb_build_array(
            head.seq + 1, head.hash, entry.chain, to_char(entry.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
            entry.actor_kind, entry.actor, entry.action, entry.subject, entry.subject_id, entry.before, entry.after)::text;
        UPDATE audit_entries
        SET seq = head.seq + 1, prev_hash = head.hash, hash = encode(sha256(convert_to(line, 'UTF8')), 'hex')
        WHERE entry_id = entry.entry_id;
        UPDATE audit_chains
        SET seq = head.seq + 1, hash = encode(sha256(convert_to(line, 'UTF8')), 'hex')
        WHERE chain = entry.chain;
    END LOOP;
END
$$;

CREATE FUNCTION audit_entries_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.seq IS NULL AND NEW.seq IS NOT NULL
        AND (NEW.entry_id, NEW.agent_id, NEW.at, NEW.actor, NEW.actor_kind, NEW.action, NEW.subject, NEW.subject_id,
             NEW.before, NEW.after)
            IS NOT DISTINCT FROM
            (OLD.entry_id, OLD.agent_id, OLD.at, OLD.actor, OLD.actor_kind, OLD.action, OLD.subject, OLD.subject_id,
             OLD.before, OLD.after) THEN
        RETURN NEW;  -- it takes its place in the chain, once
    END IF;
    RAISE EXCEPTION 'an entry of the audit is never altered or removed' USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER audit_entries_stay BEFORE UPDATE OR DELETE ON audit_entries
    FOR EACH ROW EXECUTE FUNCTION audit_entries_stay();
CREATE TRIGGER audit_entries_stay_all BEFORE TRUNCATE ON audit_entries
    FOR EACH STATEMENT EXECUTE FUNCTION audit_entries_stay();

CREATE INDEX audit_entries_action_idx ON audit_entries (chain, action, entry_id DESC);
CREATE INDEX audit_entries_actor_idx ON audit_entries (chain, actor, entry_id DESC);
