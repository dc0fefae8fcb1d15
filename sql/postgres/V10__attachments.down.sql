-- The way back from V10. Lost: which files belong to which message. The files themselves stay where they are.
DROP TRIGGER attachments_of_removed ON entries;
DROP TRIGGER attachments_of_erased ON entries;
DROP FUNCTION doom_attachments();
DROP TABLE attachment_link_key, attachment_usage, doomed_objects, attachments;
DELETE FROM refinery_schema_history WHERE version = 10;
