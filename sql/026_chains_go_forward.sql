-- The head of a chain of the audit goes forward only. Whoever may write to the database can still switch this off; an
-- anchor kept elsewhere shows that (`marvain audit head`). This keeps mistakes and half of an attack out.

CREATE FUNCTION audit_chains_go_forward() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.chain = OLD.chain
        AND (NEW.seq > OLD.seq OR (NEW.seq, NEW.hash) = (OLD.seq, OLD.hash)) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'a chain of the audit never goes back' USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER audit_chains_go_forward BEFORE UPDATE OR DELETE ON audit_chains
    FOR EACH ROW EXECUTE FUNCTION audit_chains_go_forward();
CREATE TRIGGER audit_chains_go_forward_all BEFORE TRUNCATE ON audit_chains
    FOR EACH STATEMENT EXECUTE FUNCTION audit_chains_go_forward();
