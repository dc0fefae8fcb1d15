-- What the log has to know for a chat: who a message calls, which thread it is of, and how many messages there are up
-- to an entry, so that what is unread is a subtraction and no count. Every entry is written once more.

-- Messages of the room.
ALTER TABLE rooms ADD COLUMN messages INTEGER NOT NULL DEFAULT 0;
-- Messages of the room up to this entry and with it.
ALTER TABLE entries ADD COLUMN messages INTEGER NOT NULL DEFAULT 0;
-- Of a reply: the message that its thread began with.
ALTER TABLE entries ADD COLUMN root INTEGER;
-- Whom the text calls, as a JSON array of ids, with '@room' for everybody; NULL: nobody. Goes with the text.
ALTER TABLE entries ADD COLUMN mentions TEXT;
-- `messages` of the entry that was read last.
ALTER TABLE people ADD COLUMN read_messages INTEGER NOT NULL DEFAULT 0;

CREATE TEMP TABLE counted_for_v3 AS
    SELECT room_no, seq, sum(kind = 0) OVER (PARTITION BY room_no ORDER BY seq ROWS UNBOUNDED PRECEDING) AS messages
    FROM entries;
UPDATE entries SET messages = c.messages FROM counted_for_v3 c WHERE entries.room_no = c.room_no AND entries.seq = c.seq;
DROP TABLE counted_for_v3;

-- From reply to reply, each found by its index.
CREATE INDEX replies_for_v3 ON entries (room_no, reply_to) WHERE reply_to IS NOT NULL;
CREATE TEMP TABLE threads_for_v3 AS
    WITH RECURSIVE threads AS (
        SELECT e.room_no, e.seq, t.seq AS root
        FROM entries e JOIN entries t ON t.room_no = e.room_no AND t.seq = e.reply_to
        WHERE e.reply_to IS NOT NULL AND t.reply_to IS NULL
        UNION ALL
        SELECT e.room_no, e.seq, t.root
        FROM threads t JOIN entries e ON e.room_no = t.room_no AND e.reply_to = t.seq AND e.reply_to IS NOT NULL
    )
    SELECT * FROM threads;
UPDATE entries SET root = t.root FROM threads_for_v3 t WHERE entries.room_no = t.room_no AND entries.seq = t.seq;
DROP TABLE threads_for_v3;
DROP INDEX replies_for_v3;

UPDATE rooms SET messages = e.messages FROM entries e WHERE e.room_no = rooms.no AND e.seq = rooms.head;
UPDATE people SET read_messages = e.messages FROM entries e
WHERE people.read_seq > 0 AND e.room_no = people.room_no AND e.seq = people.read_seq;

-- Somebody's own messages. Kept out of what is unread to them; found when they are erased.
CREATE INDEX entries_own ON entries (user_id, room_no, seq) WHERE kind = 0;
CREATE INDEX entries_threads ON entries (room_no, root, seq) WHERE root IS NOT NULL;

-- `entries.mentions` of messages by who is called, without those of oneself; a message that calls everybody has one row
-- for all of them, '@room'. Kept by triggers, like an index: whatever changes or removes an entry need not know of it.
CREATE TABLE mentions (
    user_id TEXT NOT NULL,
    room_no INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    author TEXT NOT NULL,
    PRIMARY KEY (user_id, room_no, seq)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER entries_mentions_new AFTER INSERT ON entries WHEN NEW.mentions IS NOT NULL AND NEW.kind = 0
BEGIN
    INSERT INTO mentions (user_id, room_no, seq, author)
    SELECT value, NEW.room_no, NEW.seq, NEW.user_id FROM json_each(NEW.mentions)
    WHERE value = '@room'
        OR (value <> NEW.user_id AND NOT EXISTS (SELECT 1 FROM json_each(NEW.mentions) WHERE value = '@room'));
END;
CREATE TRIGGER entries_mentions_changed AFTER UPDATE OF mentions ON entries
WHEN NEW.mentions IS NOT OLD.mentions AND NEW.kind = 0
BEGIN
    DELETE FROM mentions WHERE room_no = OLD.room_no AND seq = OLD.seq
        AND user_id IN (SELECT value FROM json_each(coalesce(OLD.mentions, '[]')));
    INSERT INTO mentions (user_id, room_no, seq, author)
    SELECT value, NEW.room_no, NEW.seq, NEW.user_id FROM json_each(coalesce(NEW.mentions, '[]'))
    WHERE value = '@room' OR (value <> NEW.user_id
        AND NOT EXISTS (SELECT 1 FROM json_each(NEW.mentions) WHERE value = '@room'));
END;
CREATE TRIGGER entries_mentions_gone AFTER DELETE ON entries WHEN OLD.mentions IS NOT NULL AND OLD.kind = 0
BEGIN
    DELETE FROM mentions WHERE room_no = OLD.room_no AND seq = OLD.seq
        AND user_id IN (SELECT value FROM json_each(OLD.mentions));
END;

-- Whom a text calls is a part of it.
CREATE TRIGGER entries_mentions_erased AFTER UPDATE OF text ON entries
WHEN NEW.text IS NULL AND NEW.mentions IS NOT NULL
BEGIN
    UPDATE entries SET mentions = NULL WHERE room_no = NEW.room_no AND seq = NEW.seq;
END;
