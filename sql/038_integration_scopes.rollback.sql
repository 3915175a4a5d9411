ALTER TABLE integrations DROP COLUMN scopes, DROP COLUMN decides_as;
