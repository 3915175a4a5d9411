DROP TABLE sign_in_brakes;
DROP TABLE one_time_links;
DROP INDEX users_sign_in_email_idx;
ALTER TABLE users DROP COLUMN disabled, DROP COLUMN password_hash;
UPDATE users SET cognito_sub = 'unusable:' || user_id WHERE cognito_sub IS NULL;
ALTER TABLE users ALTER COLUMN cognito_sub SET NOT NULL;
