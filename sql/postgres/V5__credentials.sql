-- Logins are listed and ended by their owners; access tokens with scopes stand beside them; what was revoked is known to
-- every node even where the message is lost.

ALTER TABLE logins
    ADD COLUMN created_at bigint NOT NULL DEFAULT (extract(epoch FROM now()) * 1000)::bigint,
    -- Written behind, a few minutes apart.
    ADD COLUMN last_seen_at bigint NOT NULL DEFAULT (extract(epoch FROM now()) * 1000)::bigint,
    ADD COLUMN client text,
    ADD COLUMN address text,
    -- NULL: a login, good for everything. Else an access token: the bits are in src/domain/scopes.rs.
    ADD COLUMN scopes smallint,
    ADD COLUMN name text,
    -- The one room that an access token is for.
    ADD COLUMN room text COLLATE "C",
    -- Its rows change in place: no index holds last_seen_at.
    SET (fillfactor = 85);
ALTER TABLE logins ALTER COLUMN created_at DROP DEFAULT, ALTER COLUMN last_seen_at DROP DEFAULT;
CREATE INDEX logins_expiry ON logins (expires_at);

-- What was revoked lately, for nodes to look at every second. A login or token by its hash, or `what`, JSON of
-- src/domain/revoked.rs; `at` is this
-- server's clock, read before the commit, so a reader looks back a little.
CREATE TABLE revocations (
    no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at bigint NOT NULL DEFAULT (extract(epoch FROM clock_timestamp()) * 1000)::bigint,
    -- One of the two.
    secret_hash bytea,
    what text
);
CREATE INDEX revocations_at ON revocations (at, no);
