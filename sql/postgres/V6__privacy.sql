-- Erasure of people, bans from the server, reports of messages, and the audit log.

-- Finds a person's own messages: also made by whatever else needs it.
CREATE INDEX IF NOT EXISTS entries_own ON entries (user_id, room_no, seq) WHERE kind = 0;
-- A person's reactions in the log, whose emoji is a text too.
CREATE INDEX entries_reacted ON entries (user_id, room_no, seq) WHERE kind = 3;
CREATE INDEX reactions_user ON reactions (user_id, room_no, target, emoji);
CREATE INDEX people_user ON people (user_id, room_no);

-- Since when the room knows them; of those who were there before this column, nothing is known.
ALTER TABLE people ADD COLUMN known_since bigint NOT NULL DEFAULT 0;
ALTER TABLE people ALTER COLUMN known_since SET DEFAULT (extract(epoch FROM clock_timestamp()) * 1000)::bigint;

-- People who are being erased, and those who were. Every text of theirs is looked for twice: at once, and when whatever
-- was under way at that time has ended.
CREATE TABLE erasures (
    user_id text COLLATE "C" PRIMARY KEY REFERENCES users (id),
    asked_at bigint NOT NULL,
    -- How far it is: which round, what is looked for (src/infra/erasing.rs), and the last place looked at.
    round smallint NOT NULL DEFAULT 0,
    stage smallint NOT NULL DEFAULT 0,
    room_no bigint NOT NULL DEFAULT 0,
    seq bigint NOT NULL DEFAULT 0,
    -- When there is something to do; NULL: done.
    due_at bigint,
    -- When the nodes were last given a reason to forget them.
    told_at bigint NOT NULL
);
CREATE INDEX erasures_due ON erasures (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX erasures_told ON erasures (told_at);

CREATE TABLE server_bans (
    user_id text COLLATE "C" PRIMARY KEY,
    at bigint NOT NULL,
    by_user text COLLATE "C" NOT NULL
);
CREATE INDEX server_bans_at ON server_bans (at);

CREATE TABLE reports (
    no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    room_no bigint NOT NULL REFERENCES rooms (no),
    seq bigint NOT NULL,
    reporter text COLLATE "C" NOT NULL,
    at bigint NOT NULL,
    -- NULL: its reporter was erased.
    reason text,
    closed_at bigint,
    closed_by text COLLATE "C",
    action text,
    note text
);
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
    no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at bigint NOT NULL,
    by_user text COLLATE "C" NOT NULL,
    act text NOT NULL,
    room_no bigint,
    whom text COLLATE "C",
    seq bigint,
    detail text,
    came_from text
);
CREATE INDEX audit_room ON audit (room_no, no) WHERE room_no IS NOT NULL;

CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only';
END
$$;
CREATE TRIGGER audit_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
