-- Files that belong to messages. Their bytes are elsewhere (src/blobs.rs), each file's under a random name, its object.
--
-- Every object has a row from before its first byte until after its last: in doomed_objects while it is uploaded and
-- again once it has to go, in attachments between. So nothing that a crash leaves is ever lost sight of, and nobody has to
-- list the objects.

CREATE TABLE attachments (
    id TEXT PRIMARY KEY,
    object TEXT NOT NULL,
    room_no INTEGER NOT NULL,
    user_id TEXT NOT NULL,
    -- The message it belongs to, which may not be there yet; as entries.key.
    key BLOB NOT NULL,
    message_id TEXT NOT NULL,
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    sha256 BLOB NOT NULL,
    at INTEGER NOT NULL,
    -- When somebody has to look whether the message came. NULL: it did.
    due INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX attachments_key ON attachments (key);
CREATE INDEX attachments_user ON attachments (user_id, id);
CREATE INDEX attachments_due ON attachments (due) WHERE due IS NOT NULL;

-- Objects to remove once they are due, and what their owner then has free again.
CREATE TABLE doomed_objects (
    object TEXT PRIMARY KEY,
    user_id TEXT,
    bytes INTEGER NOT NULL DEFAULT 0,
    due INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX doomed_objects_due ON doomed_objects (due);

-- What each person's files take, doomed ones included until they are removed.
CREATE TABLE attachment_usage (
    user_id TEXT PRIMARY KEY,
    bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The key that addresses of files are signed with, where the settings give none. One row.
CREATE TABLE attachment_link_key (
    one INTEGER PRIMARY KEY DEFAULT 1 CHECK (one = 1),
    key BLOB NOT NULL
) STRICT;

-- Where a message's text goes, its files go, in the same transaction and whoever erases it: a delete, an expiry, the
-- erasure of a person, the end of a room.
CREATE TRIGGER attachments_of_erased AFTER UPDATE OF text ON entries
WHEN OLD.key IS NOT NULL AND OLD.text IS NOT NULL AND NEW.text IS NULL
BEGIN
    INSERT INTO doomed_objects (object, user_id, bytes, due)
    SELECT object, user_id, bytes, 0 FROM attachments WHERE key = OLD.key;
    DELETE FROM attachments WHERE key = OLD.key;
END;
CREATE TRIGGER attachments_of_removed AFTER DELETE ON entries
WHEN OLD.key IS NOT NULL
BEGIN
    INSERT INTO doomed_objects (object, user_id, bytes, due)
    SELECT object, user_id, bytes, 0 FROM attachments WHERE key = OLD.key;
    DELETE FROM attachments WHERE key = OLD.key;
END;
