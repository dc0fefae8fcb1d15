-- Files that belong to messages. Their bytes are elsewhere (src/blobs.rs), each file's under a random name, its object.
--
-- Every object has a row from before its first byte until after its last: in doomed_objects while it is uploaded and
-- again once it has to go, in attachments between. So nothing that a crash leaves is ever lost sight of, and nobody has to
-- list the objects.

CREATE TABLE attachments (
    id text COLLATE "C" PRIMARY KEY,
    object text COLLATE "C" NOT NULL,
    room_no bigint NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    -- The message it belongs to, which may not be there yet; as entries.key.
    key uuid NOT NULL,
    message_id text COLLATE "C" NOT NULL,
    name text NOT NULL,
    type text NOT NULL,
    bytes bigint NOT NULL,
    sha256 bytea NOT NULL,
    at bigint NOT NULL,
    -- When somebody has to look whether the message came. NULL: it did.
    due bigint
);
CREATE INDEX attachments_key ON attachments (key);
CREATE INDEX attachments_user ON attachments (user_id, id);
CREATE INDEX attachments_due ON attachments (due) WHERE due IS NOT NULL;

-- Objects to remove once they are due, and what their owner then has free again.
CREATE TABLE doomed_objects (
    object text COLLATE "C" PRIMARY KEY,
    user_id text COLLATE "C",
    bytes bigint NOT NULL DEFAULT 0,
    due bigint NOT NULL
);
CREATE INDEX doomed_objects_due ON doomed_objects (due);

-- What each person's files take, doomed ones included until they are removed.
CREATE TABLE attachment_usage (
    user_id text COLLATE "C" PRIMARY KEY,
    bytes bigint NOT NULL
);

-- The key that addresses of files are signed with, where the settings give none. One row.
CREATE TABLE attachment_link_key (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    key bytea NOT NULL
);

-- Where a message's text goes, its files go, in the same transaction and whoever erases it: a delete, an expiry, the
-- erasure of a person, the end of a room.
CREATE FUNCTION doom_attachments() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WITH gone AS (
        DELETE FROM attachments a WHERE a.key = OLD.key RETURNING a.object, a.user_id, a.bytes
    )
    INSERT INTO doomed_objects (object, user_id, bytes, due)
    SELECT gone.object, gone.user_id, gone.bytes, 0 FROM gone;
    RETURN NULL;
END
$$;
CREATE TRIGGER attachments_of_erased AFTER UPDATE OF text ON entries FOR EACH ROW
    WHEN (OLD.key IS NOT NULL AND OLD.text IS NOT NULL AND NEW.text IS NULL)
    EXECUTE FUNCTION doom_attachments();
CREATE TRIGGER attachments_of_removed AFTER DELETE ON entries FOR EACH ROW
    WHEN (OLD.key IS NOT NULL)
    EXECUTE FUNCTION doom_attachments();
