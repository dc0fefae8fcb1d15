-- Outgoing webhooks: who is told of what was logged, and how far each got in each room. A hook is a cursor a room.

CREATE TABLE webhooks (
    no INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    -- 0: all rooms.
    room_no INTEGER NOT NULL,
    url TEXT NOT NULL,
    -- In the clear: every request is signed with it.
    secret TEXT NOT NULL,
    -- The one before, which signs as well until then.
    old_secret TEXT,
    old_until INTEGER,
    -- Names of kinds, comma-separated; empty: all.
    kinds TEXT NOT NULL,
    active INTEGER NOT NULL DEFAULT 1,
    -- Why the server switched it off.
    off_reason TEXT,
    made_by TEXT NOT NULL,
    made_at INTEGER NOT NULL,
    -- Of a hook for all rooms: whether every room that was there before it has a cursor; the first room's number that was
    -- not; and how far rooms have been looked through.
    ready INTEGER NOT NULL,
    first_new INTEGER NOT NULL,
    filled_to INTEGER NOT NULL DEFAULT 0,
    -- Not later than the earliest `due_at` of its cursors; NULL: nothing is due.
    due_at INTEGER,
    -- It did not answer: nothing of it is tried before.
    resume_at INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX webhooks_scope ON webhooks (room_no, url);
CREATE INDEX webhooks_active ON webhooks (no) WHERE active = 1;
CREATE INDEX webhooks_due ON webhooks (max(due_at, resume_at)) WHERE active = 1 AND due_at IS NOT NULL;

CREATE TABLE webhook_cursors (
    hook_no INTEGER NOT NULL REFERENCES webhooks (no) ON DELETE CASCADE,
    room_no INTEGER NOT NULL,
    -- The last entry that was delivered, passed over or given up.
    seq INTEGER NOT NULL,
    -- Where the batch that failed ends: it is tried again as it was.
    tried_to INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    -- When to look for something to deliver; while `claim` is set: when another node may.
    due_at INTEGER,
    claim INTEGER,
    -- There was news while it was claimed.
    again INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (hook_no, room_no)
) STRICT, WITHOUT ROWID;
CREATE INDEX webhook_cursors_due ON webhook_cursors (hook_no, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX webhook_cursors_room ON webhook_cursors (room_no);

-- Batches that were given up. Places in a log, no texts.
CREATE TABLE webhook_dead (
    no INTEGER PRIMARY KEY AUTOINCREMENT,
    hook_no INTEGER NOT NULL REFERENCES webhooks (no) ON DELETE CASCADE,
    room_no INTEGER NOT NULL,
    after_seq INTEGER NOT NULL,
    to_seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    reason TEXT NOT NULL,
    -- Somebody asked for it to be tried again.
    due_at INTEGER
) STRICT;
CREATE INDEX webhook_dead_hook ON webhook_dead (hook_no, no);
CREATE INDEX webhook_dead_due ON webhook_dead (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX webhook_dead_room ON webhook_dead (room_no);
