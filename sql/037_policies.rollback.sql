DROP INDEX actions_policy_idx;
DROP TABLE policies;
