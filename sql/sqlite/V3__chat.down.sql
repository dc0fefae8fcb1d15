-- The way back from V3: mentions are forgotten (the texts still have them), threads too, except for what each reply
-- replies to. Read marks stay.
DROP TRIGGER entries_mentions_new;
DROP TRIGGER entries_mentions_changed;
DROP TRIGGER entries_mentions_gone;
DROP TRIGGER entries_mentions_erased;
DROP TABLE mentions;
DROP INDEX entries_own;
DROP INDEX entries_threads;
ALTER TABLE people DROP COLUMN read_messages;
ALTER TABLE entries DROP COLUMN messages;
ALTER TABLE entries DROP COLUMN root;
ALTER TABLE entries DROP COLUMN mentions;
ALTER TABLE rooms DROP COLUMN messages;
DELETE FROM refinery_schema_history WHERE version = 3;
