-- Rooms, their logs, the people in them and their accounts. The meaning of kinds and roles is in src/infra/codes.rs;
-- times are milliseconds since 1970, UTC; ids sort by bytes.

CREATE TABLE rooms (
    -- AUTOINCREMENT: the number of a deleted room never comes again.
    no INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind INTEGER NOT NULL,
    name TEXT,
    topic TEXT,
    slow_mode_s INTEGER NOT NULL DEFAULT 0,
    archived INTEGER NOT NULL DEFAULT 0,
    -- The row stays when the room is gone, so that its id is never given out again.
    deleted INTEGER NOT NULL DEFAULT 0,
    epoch INTEGER NOT NULL DEFAULT 0,
    head INTEGER NOT NULL DEFAULT 0,
    oldest INTEGER NOT NULL DEFAULT 1
) STRICT;
CREATE INDEX rooms_public ON rooms (id) WHERE kind = 0 AND deleted = 0;

CREATE TABLE entries (
    room_no INTEGER NOT NULL REFERENCES rooms (no),
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    -- Names a message for ever: its room, its sender and the sender's id for it in one (src/infra/changes.rs).
    key BLOB,
    target INTEGER,
    reply_to INTEGER,
    edited_at INTEGER,
    kind INTEGER NOT NULL,
    active INTEGER,
    user_id TEXT NOT NULL,
    message_id TEXT,
    -- A message's present text, an edit's text, a reaction's emoji, a room entry's patch as JSON.
    text TEXT,
    -- Compact JSON as it was given.
    data TEXT,
    PRIMARY KEY (room_no, seq)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX entries_key ON entries (key) WHERE key IS NOT NULL;
CREATE INDEX entries_edits ON entries (room_no, target) WHERE kind = 1;

-- The reactions that are set now; the log has their history.
CREATE TABLE reactions (
    room_no INTEGER NOT NULL REFERENCES rooms (no),
    target INTEGER NOT NULL,
    user_id TEXT NOT NULL,
    emoji TEXT NOT NULL,
    PRIMARY KEY (room_no, target, user_id, emoji)
) STRICT, WITHOUT ROWID;

-- Deleted rooms of which something is left: it goes in the background, a little at a time.
CREATE TABLE doomed_rooms (
    no INTEGER PRIMARY KEY
) STRICT;

-- What a room remembers of a person: outlives the membership, since leaving lifts neither mute nor ban nor read mark.
CREATE TABLE people (
    room_no INTEGER NOT NULL REFERENCES rooms (no),
    user_id TEXT NOT NULL,
    -- NULL: not a member.
    role INTEGER,
    muted INTEGER NOT NULL DEFAULT 0,
    banned INTEGER NOT NULL DEFAULT 0,
    read_seq INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (room_no, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX people_rooms ON people (user_id, room_no) WHERE role IS NOT NULL;

CREATE TABLE users (
    id TEXT PRIMARY KEY,
    kind INTEGER NOT NULL,
    name TEXT,
    -- PHC string of argon2id; password accounts only.
    password_hash TEXT,
    -- The row stays when the person is gone, so that the id is never given out again.
    erased INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE logins (
    secret_hash BLOB PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id),
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX logins_user ON logins (user_id);
