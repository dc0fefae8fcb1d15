-- The way back from V6. Lost: the audit log, reports, bans from the server, and the rest of erasures under way (let them
-- end before). The index entries_own stays, since others use it.
DROP TABLE audit;
DROP TABLE reports;
DROP TABLE server_bans;
DROP TABLE erasures;
DROP TRIGGER people_known;
ALTER TABLE people DROP COLUMN known_since;
DROP INDEX people_user;
DROP INDEX reactions_user;
DROP INDEX entries_reacted;
DELETE FROM refinery_schema_history WHERE version = 6;
