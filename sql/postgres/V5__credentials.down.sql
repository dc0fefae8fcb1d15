-- The way back from V5: access tokens are gone, and what is known of logins besides their end.
DROP TABLE revocations;
DROP INDEX logins_expiry;
DELETE FROM logins WHERE scopes IS NOT NULL;
ALTER TABLE logins
    DROP COLUMN created_at, DROP COLUMN last_seen_at, DROP COLUMN client, DROP COLUMN address,
    DROP COLUMN scopes, DROP COLUMN name, DROP COLUMN room,
    RESET (fillfactor);
DELETE FROM refinery_schema_history WHERE version = 5;
