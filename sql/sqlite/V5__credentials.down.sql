-- The way back from V5: access tokens are gone, and what is known of logins besides their end.
DROP TABLE revocations;
DROP INDEX logins_expiry;
DELETE FROM logins WHERE scopes IS NOT NULL;
ALTER TABLE logins DROP COLUMN created_at;
ALTER TABLE logins DROP COLUMN last_seen_at;
ALTER TABLE logins DROP COLUMN client;
ALTER TABLE logins DROP COLUMN address;
ALTER TABLE logins DROP COLUMN scopes;
ALTER TABLE logins DROP COLUMN name;
ALTER TABLE logins DROP COLUMN room;
DELETE FROM refinery_schema_history WHERE version = 5;
