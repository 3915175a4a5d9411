DROP TRIGGER audit_chains_go_forward ON audit_chains;
DROP TRIGGER audit_chains_go_forward_all ON audit_chains;
DROP FUNCTION audit_chains_go_forward();
