-- Encryption at rest: a key of its own for each room whose texts are encrypted, itself encrypted under a key of the
-- settings. Sealed values stand where the texts stood (src/infra/sealed.rs says what is sealed, and how).

-- Whether the room has a key; it keeps it for as long as it is there.
ALTER TABLE rooms ADD COLUMN encrypted INTEGER NOT NULL DEFAULT 0;
CREATE INDEX rooms_in_clear ON rooms (kind, no) WHERE encrypted = 0 AND deleted = 0;

-- Made in the transaction that raises the room's epoch: whoever appends knows of it. Gone with the room, at once.
CREATE TABLE room_keys (
    room_no INTEGER PRIMARY KEY REFERENCES rooms (no),
    -- Name of the key in the settings that this one is under.
    ring_key TEXT NOT NULL,
    wrapped BLOB NOT NULL,
    -- The log had entries up to `clear_to` when the key was made; those up to `sealed_to` are sealed by now.
    sealed_to INTEGER NOT NULL DEFAULT 0,
    clear_to INTEGER NOT NULL
) STRICT;
CREATE INDEX room_keys_ring ON room_keys (ring_key, room_no);
CREATE INDEX room_keys_in_clear ON room_keys (room_no) WHERE sealed_to < clear_to;
