-- The way back from V2.
DROP TABLE jobs;
DELETE FROM refinery_schema_history WHERE version = 2;
