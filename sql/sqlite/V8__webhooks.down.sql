-- The way back from V8. Lost: webhooks, how far they got, and what they were not told.
DROP TABLE webhook_dead;
DROP TABLE webhook_cursors;
DROP TABLE webhooks;
DELETE FROM refinery_schema_history WHERE version = 8;
