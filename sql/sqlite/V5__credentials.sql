-- Logins are listed and ended by their owners; access tokens with scopes stand beside them.

ALTER TABLE logins ADD COLUMN created_at INTEGER NOT NULL DEFAULT 0;
-- Written behind, a few minutes apart.
ALTER TABLE logins ADD COLUMN last_seen_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE logins ADD COLUMN client TEXT;
ALTER TABLE logins ADD COLUMN address TEXT;
-- NULL: a login, good for everything. Else an access token: the bits are in src/domain/scopes.rs.
ALTER TABLE logins ADD COLUMN scopes INTEGER;
ALTER TABLE logins ADD COLUMN name TEXT;
-- The one room that an access token is for.
ALTER TABLE logins ADD COLUMN room TEXT;
UPDATE logins SET created_at = CAST(unixepoch('subsec') * 1000 AS INTEGER),
    last_seen_at = CAST(unixepoch('subsec') * 1000 AS INTEGER);
CREATE INDEX logins_expiry ON logins (expires_at);

-- What was revoked lately: a login or token by its hash, or `what`, JSON of src/domain/revoked.rs.
CREATE TABLE revocations (
    no INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
    -- One of the two.
    secret_hash BLOB,
    what TEXT
) STRICT;
CREATE INDEX revocations_at ON revocations (at, no);
