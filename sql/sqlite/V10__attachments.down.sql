-- The way back from V10. Lost: which files belong to which message. The files themselves stay where they are.
DROP TRIGGER attachments_of_removed;
DROP TRIGGER attachments_of_erased;
DROP TABLE attachment_link_key;
DROP TABLE attachment_usage;
DROP TABLE doomed_objects;
DROP TABLE attachments;
DELETE FROM refinery_schema_history WHERE version = 10;
