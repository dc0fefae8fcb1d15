-- The way back from V7: the index goes, the logs stay.
DROP TABLE search_progress;
DROP TABLE search_within;
DROP TABLE search_terms;
DROP TABLE search;
DELETE FROM refinery_schema_history WHERE version = 7;
