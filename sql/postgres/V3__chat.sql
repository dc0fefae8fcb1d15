-- What the log has to know for a chat: who a message calls, which thread it is of, and how many messages there are up
-- to an entry, so that what is unread is a subtraction and no count.
--
-- What it costs: every entry is written once more (the table takes twice its place until it is vacuumed) and three
-- indexes are built, while nobody writes; to be run with the nodes of the last release stopped, since what those append
-- would not be counted.

-- Seldom more than a few rows are wanted, so the sessions of this program have these off; a whole table is now.
SET LOCAL enable_seqscan = on;
SET LOCAL enable_hashjoin = on;
SET LOCAL enable_mergejoin = on;

-- Of the whole room.
ALTER TABLE room_heads ADD COLUMN messages bigint NOT NULL DEFAULT 0;
ALTER TABLE entries
    -- Messages of the room up to this entry and with it.
    ADD COLUMN messages bigint NOT NULL DEFAULT 0,
    -- Of a reply: the message that its thread began with.
    ADD COLUMN root bigint,
    -- Whom the text calls, as a JSON array of ids, with '@room' for everybody; NULL: nobody. Goes with the text.
    ADD COLUMN mentions text;
-- `messages` of the entry that was read last.
ALTER TABLE people ADD COLUMN read_messages bigint NOT NULL DEFAULT 0;

-- From reply to reply, each found by its index.
CREATE INDEX replies_for_v3 ON entries (room_no, reply_to) WHERE reply_to IS NOT NULL;
WITH RECURSIVE threads AS (
    SELECT e.room_no, e.seq, t.seq AS root
    FROM entries e JOIN entries t ON t.room_no = e.room_no AND t.seq = e.reply_to
    WHERE e.reply_to IS NOT NULL AND t.reply_to IS NULL
    UNION ALL
    SELECT e.room_no, e.seq, t.root
    FROM threads t JOIN entries e ON e.room_no = t.room_no AND e.reply_to = t.seq AND e.reply_to IS NOT NULL
), counted AS (
    SELECT room_no, seq, count(*) FILTER (WHERE kind = 0)
        OVER (PARTITION BY room_no ORDER BY seq ROWS UNBOUNDED PRECEDING) AS messages
    FROM entries
)
UPDATE entries e SET messages = c.messages, root = t.root
FROM counted c LEFT JOIN threads t ON t.room_no = c.room_no AND t.seq = c.seq
WHERE e.room_no = c.room_no AND e.seq = c.seq;
DROP INDEX replies_for_v3;

UPDATE room_heads h SET messages = e.messages FROM entries e WHERE e.room_no = h.no AND e.seq = h.head;
UPDATE people p SET read_messages = e.messages FROM entries e
WHERE p.read_seq > 0 AND e.room_no = p.room_no AND e.seq = p.read_seq;

-- Somebody's own messages. Kept out of what is unread to them; found when they are erased.
CREATE INDEX entries_own ON entries (user_id, room_no, seq) WHERE kind = 0;
CREATE INDEX entries_threads ON entries (room_no, root, seq) WHERE root IS NOT NULL;

-- `entries.mentions` of messages by who is called, without those of oneself; a message that calls everybody has one row
-- for all of them, '@room'. Kept by triggers, like an index: whatever changes or removes an entry need not know of it.
CREATE TABLE mentions (
    user_id text COLLATE "C" NOT NULL,
    room_no bigint NOT NULL,
    seq bigint NOT NULL,
    author text COLLATE "C" NOT NULL,
    PRIMARY KEY (user_id, room_no, seq)
);

CREATE FUNCTION follow_mentions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' AND OLD.mentions IS NOT NULL THEN
        DELETE FROM mentions m USING json_array_elements_text(OLD.mentions::json) AS called (id)
        WHERE m.user_id = called.id AND m.room_no = OLD.room_no AND m.seq = OLD.seq;
    END IF;
    IF TG_OP <> 'DELETE' AND NEW.mentions IS NOT NULL THEN
        INSERT INTO mentions (user_id, room_no, seq, author)
        SELECT called.id, NEW.room_no, NEW.seq, NEW.user_id FROM json_array_elements_text(NEW.mentions::json) AS called (id)
        WHERE called.id = '@room' OR (called.id <> NEW.user_id AND NOT NEW.mentions::jsonb ? '@room');
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER entries_mentions_new AFTER INSERT ON entries FOR EACH ROW
    WHEN (NEW.mentions IS NOT NULL AND NEW.kind = 0) EXECUTE FUNCTION follow_mentions();
CREATE TRIGGER entries_mentions_changed AFTER UPDATE ON entries FOR EACH ROW
    WHEN (NEW.mentions IS DISTINCT FROM OLD.mentions AND NEW.kind = 0) EXECUTE FUNCTION follow_mentions();
CREATE TRIGGER entries_mentions_gone AFTER DELETE ON entries FOR EACH ROW
    WHEN (OLD.mentions IS NOT NULL AND OLD.kind = 0) EXECUTE FUNCTION follow_mentions();

-- Whom a text calls is a part of it.
CREATE FUNCTION erase_mentions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.mentions = NULL;
    RETURN NEW;
END
$$;
CREATE TRIGGER entries_mentions_erased BEFORE UPDATE OF text ON entries FOR EACH ROW
    WHEN (NEW.text IS NULL AND NEW.mentions IS NOT NULL) EXECUTE FUNCTION erase_mentions();

DROP FUNCTION append_messages;

-- One group commit of messages over several rooms: what src/infra/postgres/append.rs calls for rooms that get nothing
-- but messages. Rooms come in the order of their numbers, each once, with the count of their items; an item names its
-- room by its place in `rooms_no` and says which of the room's it is (both from 1); no key comes twice. Arrays of
-- replies, of look-ups and of mentions are NULL where there are none.
--
-- `heads`, one a room: its head before this call; -2: fenced, nothing was done; -1: a reply to an entry behind that
-- head, which is for the caller to settle, nothing was done. `why`, one an item (NULL: all 0): 0 inserted, with the next
-- seq of its room in the order of the items; 1 a duplicate, `known_seq` and `known_at` tell of the first; 2 only looked
-- up, and absent; 3 a reply to what is no message; 4 nothing was done for its room.
--
-- Each statement of a function takes a snapshot of its own, so what is looked up is as fresh as the locks.
CREATE FUNCTION append_messages(
    rooms_no bigint[], rooms_epoch bigint[], rooms_items integer[],
    item_room integer[], item_n integer[], item_at bigint[], item_key uuid[], item_reply_to bigint[],
    item_known_only boolean[], item_user text[], item_id text[], item_text text[], item_data text[],
    item_mentions text[] DEFAULT NULL,
    OUT heads bigint[], OUT why smallint[], OUT known_seq bigint[], OUT known_at bigint[]
) LANGUAGE plpgsql AS $$
DECLARE
    -- What the number of a room's messages differs from its head by, one a room: the same before and after this call,
    -- which inserts nothing but messages.
    others bigint[];
BEGIN
    -- Takes the locks and raises the heads as if every item were inserted. In the order of the numbers, however the
    -- join is done: two calls that want the same rooms never wait for each other in a circle.
    WITH raised AS (
        UPDATE room_heads h SET head = h.head + r.items, messages = h.messages + r.items
        FROM unnest(rooms_no, rooms_epoch, rooms_items) WITH ORDINALITY AS r (no, epoch, items, ord)
        WHERE h.no = r.no AND h.epoch = r.epoch
        RETURNING r.ord, h.head - r.items AS base, h.head - h.messages AS others
    )
    SELECT array_agg(raised.base ORDER BY raised.ord), array_agg(raised.others ORDER BY raised.ord)
    INTO heads, others FROM raised;

    IF cardinality(heads) = cardinality(rooms_no) AND item_known_only IS NULL
        AND NOT EXISTS (SELECT FROM entries e WHERE e.key = ANY (item_key))
        AND (item_reply_to IS NULL OR NOT EXISTS (
            SELECT FROM unnest(item_room, item_reply_to) AS i (room, reply_to)
            WHERE i.reply_to IS NOT NULL AND NOT EXISTS (
                SELECT FROM entries e WHERE e.room_no = rooms_no[i.room] AND e.seq = i.reply_to AND e.kind = 0
            )
        ))
    THEN
        INSERT INTO entries
            (room_no, seq, at, key, reply_to, kind, user_id, message_id, text, data, messages, mentions, root)
        SELECT rooms_no[i.room], heads[i.room] + i.n, i.at, i.key, i.reply_to, 0, i.user_id, i.message_id, i.text, i.data,
            heads[i.room] - others[i.room] + i.n, i.mentions,
            CASE WHEN i.reply_to IS NOT NULL THEN (
                SELECT coalesce(t.root, t.seq) FROM entries t WHERE t.room_no = rooms_no[i.room] AND t.seq = i.reply_to
            ) END
        FROM unnest(item_room, item_n, item_at, item_key, item_reply_to, item_user, item_id, item_text, item_data,
                item_mentions)
            AS i (room, n, at, key, reply_to, user_id, message_id, text, data, mentions);
        RETURN;
    END IF;

    -- Not every item is inserted: find out which and why, insert the others, and take the heads back by the difference.
    -- The heads are what they were raised to less what they were raised by, for rooms with the right epoch.
    SELECT array_agg(coalesce(h.head - r.items, -2) ORDER BY r.ord), array_agg(h.head - h.messages ORDER BY r.ord)
    INTO heads, others FROM unnest(rooms_no, rooms_epoch, rooms_items) WITH ORDINALITY AS r (no, epoch, items, ord)
    LEFT JOIN room_heads h ON h.no = r.no AND h.epoch = r.epoch;

    SELECT array_agg(f.why ORDER BY f.ord), array_agg(f.seq ORDER BY f.ord), array_agg(f.at ORDER BY f.ord)
    INTO why, known_seq, known_at
    FROM (
        SELECT i.ord, e.seq, e.at,
            (CASE
                WHEN heads[i.room] < 0 THEN 4
                WHEN e.seq IS NOT NULL THEN 1
                WHEN i.known_only THEN 2
                WHEN i.reply_to > heads[i.room] THEN -1
                WHEN i.reply_to IS NOT NULL AND NOT EXISTS (
                    SELECT FROM entries t WHERE t.room_no = rooms_no[i.room] AND t.seq = i.reply_to AND t.kind = 0
                ) THEN 3
                ELSE 0
            END)::smallint AS why
        FROM unnest(item_room, item_key, item_reply_to, item_known_only)
            WITH ORDINALITY AS i (room, key, reply_to, known_only, ord)
        LEFT JOIN entries e ON e.key = i.key
    ) AS f;

    IF -1 = ANY (why) THEN
        WITH ahead AS MATERIALIZED (
            SELECT coalesce(array_agg(DISTINCT i.room), '{}') AS rooms FROM unnest(item_room, why) AS i (room, why)
            WHERE i.why = -1
        )
        SELECT array_agg(CASE WHEN i.room = ANY (ahead.rooms) THEN 4 ELSE i.why END ORDER BY i.ord),
            (SELECT array_agg(CASE WHEN r.ord = ANY (ahead.rooms) THEN -1 ELSE r.head END ORDER BY r.ord)
             FROM unnest(heads) WITH ORDINALITY AS r (head, ord))
        INTO why, heads
        FROM unnest(item_room, why) WITH ORDINALITY AS i (room, why, ord), ahead
        GROUP BY ahead.rooms;
    END IF;

    INSERT INTO entries
        (room_no, seq, at, key, reply_to, kind, user_id, message_id, text, data, messages, mentions, root)
    SELECT rooms_no[i.room], heads[i.room] + i.n, i.at, i.key, i.reply_to, 0, i.user_id, i.message_id, i.text, i.data,
        heads[i.room] - others[i.room] + i.n, i.mentions,
        CASE WHEN i.reply_to IS NOT NULL THEN (
            SELECT coalesce(t.root, t.seq) FROM entries t WHERE t.room_no = rooms_no[i.room] AND t.seq = i.reply_to
        ) END
    FROM (
        SELECT i.*, row_number() OVER (PARTITION BY i.room ORDER BY i.ord) AS n
        FROM unnest(item_room, item_at, item_key, item_reply_to, item_user, item_id, item_text, item_data,
                item_mentions, why)
            WITH ORDINALITY AS i (room, at, key, reply_to, user_id, message_id, text, data, mentions, why, ord)
        WHERE i.why = 0
    ) AS i;

    -- A fenced room was not raised: its row has another epoch, or is gone.
    UPDATE room_heads h SET head = h.head - spare.items, messages = h.messages - spare.items
    FROM (
        SELECT i.room, count(*) AS items FROM unnest(item_room, why) AS i (room, why) WHERE i.why <> 0 GROUP BY i.room
    ) AS spare
    WHERE h.no = rooms_no[spare.room] AND h.epoch = rooms_epoch[spare.room];
END
$$;
