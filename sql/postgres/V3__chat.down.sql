-- The way back from V3: mentions are forgotten (the texts still have them), threads too, except for what each reply
-- replies to. Read marks stay.
DROP TRIGGER entries_mentions_new ON entries;
DROP TRIGGER entries_mentions_changed ON entries;
DROP TRIGGER entries_mentions_gone ON entries;
DROP TRIGGER entries_mentions_erased ON entries;
DROP FUNCTION follow_mentions;
DROP FUNCTION erase_mentions;
DROP TABLE mentions;
DROP INDEX entries_own, entries_threads;
ALTER TABLE people DROP COLUMN read_messages;
ALTER TABLE entries DROP COLUMN messages, DROP COLUMN root, DROP COLUMN mentions;
ALTER TABLE room_heads DROP COLUMN messages;
DROP FUNCTION append_messages;

-- One group commit of messages over several rooms: what src/infra/postgres/append.rs calls for rooms that get nothing
-- but messages. Rooms come in the order of their numbers, each once, with the count of their items; an item names its
-- room by its place in `rooms_no` and says which of the room's it is (both from 1); no key comes twice. Arrays of
-- replies and of look-ups are NULL where there are none.
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
    OUT heads bigint[], OUT why smallint[], OUT known_seq bigint[], OUT known_at bigint[]
) LANGUAGE plpgsql AS $$
BEGIN
    -- Takes the locks and raises the heads as if every item were inserted. In the order of the numbers, however the
    -- join is done: two calls that want the same rooms never wait for each other in a circle.
    WITH raised AS (
        UPDATE room_heads h SET head = h.head + r.items
        FROM unnest(rooms_no, rooms_epoch, rooms_items) WITH ORDINALITY AS r (no, epoch, items, ord)
        WHERE h.no = r.no AND h.epoch = r.epoch
        RETURNING r.ord, h.head - r.items AS base
    )
    SELECT array_agg(raised.base ORDER BY raised.ord) INTO heads FROM raised;

    IF cardinality(heads) = cardinality(rooms_no) AND item_known_only IS NULL
        AND NOT EXISTS (SELECT FROM entries e WHERE e.key = ANY (item_key))
        AND (item_reply_to IS NULL OR NOT EXISTS (
            SELECT FROM unnest(item_room, item_reply_to) AS i (room, reply_to)
            WHERE i.reply_to IS NOT NULL AND NOT EXISTS (
                SELECT FROM entries e WHERE e.room_no = rooms_no[i.room] AND e.seq = i.reply_to AND e.kind = 0
            )
        ))
    THEN
        INSERT INTO entries (room_no, seq, at, key, reply_to, kind, user_id, message_id, text, data)
        SELECT rooms_no[i.room], heads[i.room] + i.n, i.at, i.key, i.reply_to, 0, i.user_id, i.message_id, i.text, i.data
        FROM unnest(item_room, item_n, item_at, item_key, item_reply_to, item_user, item_id, item_text, item_data)
            AS i (room, n, at, key, reply_to, user_id, message_id, text, data);
        RETURN;
    END IF;

    -- Not every item is inserted: find out which and why, insert the others, and take the heads back by the difference.
    -- The heads are what they were raised to less what they were raised by, for rooms with the right epoch.
    SELECT array_agg(coalesce((
            SELECT h.head - r.items FROM room_heads h WHERE h.no = r.no AND h.epoch = r.epoch
        ), -2) ORDER BY r.ord)
    INTO heads FROM unnest(rooms_no, rooms_epoch, rooms_items) WITH ORDINALITY AS r (no, epoch, items, ord);

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

    INSERT INTO entries (room_no, seq, at, key, reply_to, kind, user_id, message_id, text, data)
    SELECT rooms_no[i.room], heads[i.room] + row_number() OVER (PARTITION BY i.room ORDER BY i.ord),
        i.at, i.key, i.reply_to, 0, i.user_id, i.message_id, i.text, i.data
    FROM unnest(item_room, item_at, item_key, item_reply_to, item_user, item_id, item_text, item_data, why)
        WITH ORDINALITY AS i (room, at, key, reply_to, user_id, message_id, text, data, why, ord)
    WHERE i.why = 0;

    -- A fenced room was not raised: its row has another epoch, or is gone.
    UPDATE room_heads h SET head = h.head - spare.items
    FROM (
        SELECT i.room, count(*) AS items FROM unnest(item_room, why) AS i (room, why) WHERE i.why <> 0 GROUP BY i.room
    ) AS spare
    WHERE h.no = rooms_no[spare.room] AND h.epoch = rooms_epoch[spare.room];
END
$$;
DELETE FROM refinery_schema_history WHERE version = 3;
