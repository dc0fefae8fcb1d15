-- Disappearing messages, kept texts of edited messages, pins, invitations. Times are milliseconds since 1970, UTC.

ALTER TABLE rooms
    ADD COLUMN ttl_s integer NOT NULL DEFAULT 0,
    -- Messages sent until then have expired by a ttl_s that the room once had.
    ADD COLUMN expired_before bigint NOT NULL DEFAULT 0,
    ADD COLUMN edit_history boolean NOT NULL DEFAULT false;

-- Rooms of which something will have to be erased: when to look again, and how far the log is done.
CREATE TABLE expiring_rooms (
    room_no bigint PRIMARY KEY,
    due bigint NOT NULL,
    upto bigint NOT NULL DEFAULT 0
);
CREATE INDEX expiring_rooms_due ON expiring_rooms (due);

-- Texts that edits have replaced, by the edit that did.
CREATE TABLE revisions (
    room_no bigint NOT NULL,
    target bigint NOT NULL,
    replaced_by bigint NOT NULL,
    -- When the text was set.
    at bigint NOT NULL,
    text text NOT NULL,
    PRIMARY KEY (room_no, target, replaced_by)
);

CREATE TABLE pins (
    room_no bigint NOT NULL,
    target bigint NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    at bigint NOT NULL,
    PRIMARY KEY (room_no, target)
);

CREATE TABLE invitations (
    id text COLLATE "C" PRIMARY KEY,
    room_no bigint NOT NULL,
    -- SHA-256 of the token, which is stored nowhere.
    secret_hash bytea NOT NULL UNIQUE,
    made_by text COLLATE "C" NOT NULL,
    made_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    -- NULL: as many as like.
    uses_left integer
);
CREATE INDEX invitations_room ON invitations (room_no, id);
CREATE INDEX invitations_end ON invitations (expires_at);
