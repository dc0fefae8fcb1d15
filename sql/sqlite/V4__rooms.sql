-- Disappearing messages, kept texts of edited messages, pins, invitations. Times are milliseconds since 1970, UTC.

ALTER TABLE rooms ADD COLUMN ttl_s INTEGER NOT NULL DEFAULT 0;
-- Messages sent until then have expired by a ttl_s that the room once had.
ALTER TABLE rooms ADD COLUMN expired_before INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rooms ADD COLUMN edit_history INTEGER NOT NULL DEFAULT 0;

-- Rooms of which something will have to be erased: when to look again, and how far the log is done.
CREATE TABLE expiring_rooms (
    room_no INTEGER PRIMARY KEY,
    due INTEGER NOT NULL,
    upto INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX expiring_rooms_due ON expiring_rooms (due);

-- Texts that edits have replaced, by the edit that did.
CREATE TABLE revisions (
    room_no INTEGER NOT NULL,
    target INTEGER NOT NULL,
    replaced_by INTEGER NOT NULL,
    -- When the text was set.
    at INTEGER NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (room_no, target, replaced_by)
) STRICT, WITHOUT ROWID;

CREATE TABLE pins (
    room_no INTEGER NOT NULL,
    target INTEGER NOT NULL,
    user_id TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (room_no, target)
) STRICT, WITHOUT ROWID;

CREATE TABLE invitations (
    id TEXT PRIMARY KEY,
    room_no INTEGER NOT NULL,
    -- SHA-256 of the token, which is stored nowhere.
    secret_hash BLOB NOT NULL UNIQUE,
    made_by TEXT NOT NULL,
    made_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    -- NULL: as many as like.
    uses_left INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX invitations_room ON invitations (room_no, id);
CREATE INDEX invitations_end ON invitations (expires_at);
