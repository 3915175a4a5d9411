ALTER TABLE credentials DROP COLUMN valid_until;
DROP INDEX events_user_message_idx;
ALTER TABLE events DROP COLUMN user_id;
DROP TABLE idempotency_keys;
DROP TABLE personal_tokens;
