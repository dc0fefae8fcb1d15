-- The way back from V7: the index goes, the logs stay. The extension pg_trgm stays too: others may use it.
DROP FUNCTION forget_texts;
DROP TABLE search_progress, search;
DELETE FROM refinery_schema_history WHERE version = 7;
