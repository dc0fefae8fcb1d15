-- Outgoing webhooks: who is told of what was logged, and how far each got in each room. A hook is a cursor a room.

CREATE TABLE webhooks (
    no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text COLLATE "C" NOT NULL UNIQUE,
    -- 0: all rooms.
    room_no bigint NOT NULL,
    url text COLLATE "C" NOT NULL,
    -- In the clear: every request is signed with it.
    secret text NOT NULL,
    -- The one before, which signs as well until then.
    old_secret text,
    old_until bigint,
    -- Names of kinds, comma-separated; empty: all.
    kinds text NOT NULL,
    active boolean NOT NULL DEFAULT true,
    -- Why the server switched it off.
    off_reason text,
    made_by text COLLATE "C" NOT NULL,
    made_at bigint NOT NULL,
    -- Of a hook for all rooms: whether every room that was there before it has a cursor; the first room's number that was
    -- not; and how far rooms have been looked through.
    ready boolean NOT NULL,
    first_new bigint NOT NULL,
    filled_to bigint NOT NULL DEFAULT 0,
    -- Not later than the earliest `due_at` of its cursors; NULL: nothing is due.
    due_at bigint,
    -- It did not answer: nothing of it is tried before.
    resume_at bigint NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX webhooks_scope ON webhooks (room_no, url);
CREATE INDEX webhooks_active ON webhooks (no) WHERE active;
CREATE INDEX webhooks_due ON webhooks (greatest(due_at, resume_at)) WHERE active AND due_at IS NOT NULL;

CREATE TABLE webhook_cursors (
    hook_no bigint NOT NULL REFERENCES webhooks (no) ON DELETE CASCADE,
    room_no bigint NOT NULL,
    -- The last entry that was delivered, passed over or given up.
    seq bigint NOT NULL,
    -- Where the batch that failed ends: it is tried again as it was.
    tried_to bigint,
    attempts integer NOT NULL DEFAULT 0,
    -- When to look for something to deliver; while `claim` is set: when another node may.
    due_at bigint,
    claim bigint,
    -- There was news while it was claimed.
    again boolean NOT NULL DEFAULT false,
    PRIMARY KEY (hook_no, room_no)
) WITH (fillfactor = 70);
CREATE INDEX webhook_cursors_due ON webhook_cursors (hook_no, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX webhook_cursors_room ON webhook_cursors (room_no);

-- Batches that were given up. Places in a log, no texts.
CREATE TABLE webhook_dead (
    no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hook_no bigint NOT NULL REFERENCES webhooks (no) ON DELETE CASCADE,
    room_no bigint NOT NULL,
    after_seq bigint NOT NULL,
    to_seq bigint NOT NULL,
    at bigint NOT NULL,
    attempts integer NOT NULL,
    reason text NOT NULL,
    -- Somebody asked for it to be tried again.
    due_at bigint
);
CREATE INDEX webhook_dead_hook ON webhook_dead (hook_no, no);
CREATE INDEX webhook_dead_due ON webhook_dead (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX webhook_dead_room ON webhook_dead (room_no);
