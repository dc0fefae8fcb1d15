-- Erasure of people, bans from the server, reports of messages, and the audit log.

-- Finds a person's own messages: also made by whatever else needs it.
CREATE INDEX IF NOT EXISTS entries_own ON entries (user_id, room_no, seq) WHERE kind = 0;
-- A person's reactions in the log, whose emoji is a text too.
CREATE INDEX entries_reacted ON entries (user_id, room_no, seq) WHERE kind = 3;
CREATE INDEX reactions_user ON reactions (user_id, room_no, target, emoji);
CREATE INDEX people_user ON people (user_id, room_no);

-- Since when the room knows them; of those who were there before this column, nothing is known.
ALTER TABLE people ADD COLUMN known_since INTEGER NOT NULL DEFAULT 0;
CREATE TRIGGER people_known AFTER INSERT ON people BEGIN
    UPDATE people SET known_since = CAST(unixepoch('subsec') * 1000 AS INTEGER)
    WHERE room_no = new.room_no AND user_id = new.user_id;
END;

-- People who are being erased, and those who were. Every text of theirs is looked for twice: at once, and when whatever
-- was under way at that time has ended.
CREATE TABLE erasures (
    user_id TEXT PRIMARY KEY REFERENCES users (id),
    asked_at INTEGER NOT NULL,
    -- How far it is: which round, what is looked for (src/infra/erasing.rs), and the last place looked at.
    round INTEGER NOT NULL DEFAULT 0,
    stage INTEGER NOT NULL DEFAULT 0,
    room_no INTEGER NOT NULL DEFAULT 0,
    seq INTEGER NOT NULL DEFAULT 0,
    -- When there is something to do; NULL: done.
    due_at INTEGER,
    -- When the nodes were last given a reason to forget them.
    told_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX erasures_due ON erasures (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX erasures_told ON erasures (told_at);

CREATE TABLE server_bans (
    user_id TEXT PRIMARY KEY,
    at INTEGER NOT NULL,
    by_user TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX server_bans_at ON server_bans (at);

CREATE TABLE reports (
    -- AUTOINCREMENT: the number of a report that is gone never comes again.
    no INTEGER PRIMARY KEY AUTOINCREMENT,
    room_no INTEGER NOT NULL REFERENCES rooms (no),
    seq INTEGER NOT NULL,
    reporter TEXT NOT NULL,
    at INTEGER NOT NULL,
    -- NULL: its reporter was erased.
    reason TEXT,
    closed_at INTEGER,
    closed_by TEXT,
    action TEXT,
    note TEXT
) STRICT;
-- One a person and message.
CREATE UNIQUE INDEX reports_once ON reports (room_no, seq, reporter);
CREATE INDEX reports_open ON reports (no) WHERE closed_at IS NULL;
CREATE INDEX reports_closed ON reports (no) WHERE closed_at IS NOT NULL;
CREATE INDEX reports_room_open ON reports (room_no, no) WHERE closed_at IS NULL;
CREATE INDEX reports_room_closed ON reports (room_no, no) WHERE closed_at IS NOT NULL;
CREATE INDEX reports_reporter ON reports (reporter, no) WHERE closed_at IS NULL;
-- Texts by a person, for their erasure.
CREATE INDEX reports_reason ON reports (reporter, no) WHERE reason IS NOT NULL;
CREATE INDEX reports_note ON reports (closed_by, no) WHERE note IS NOT NULL;

-- Who did what with a right that others lack, when, and from where. Holds ids, numbers and the server's own words, and
-- no text of anybody's. Nothing in it is ever changed or removed.
CREATE TABLE audit (
    no INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    by_user TEXT NOT NULL,
    act TEXT NOT NULL,
    room_no INTEGER,
    whom TEXT,
    seq INTEGER,
    detail TEXT,
    came_from TEXT
) STRICT;
CREATE INDEX audit_room ON audit (room_no, no) WHERE room_no IS NOT NULL;
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
CREATE TRIGGER audit_is_not_removed BEFORE DELETE ON audit BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
