-- The way back from V6. Lost: the audit log, reports, bans from the server, and the rest of erasures under way (let them
-- end before). The index entries_own stays, since others use it.
DROP TABLE audit;
DROP FUNCTION audit_is_append_only;
DROP TABLE reports, server_bans, erasures;
ALTER TABLE people DROP COLUMN known_since;
DROP INDEX people_user, reactions_user, entries_reacted;
DELETE FROM refinery_schema_history WHERE version = 6;
