DROP TABLE memberships;
DROP TABLE remotes;
