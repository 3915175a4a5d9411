DROP TABLE agent_memberships;
DROP TABLE users;
