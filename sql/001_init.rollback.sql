-- The extension stays: it may have been there before, and other schemas may use it.
DROP TABLE audit_state;
DROP TABLE actions;
DROP TABLE memories;
DROP TABLE events;
DROP TABLE presence;
DROP TABLE consent_grants;
DROP TABLE people;
DROP TABLE devices;
DROP TABLE spaces;
DROP TABLE agents;
