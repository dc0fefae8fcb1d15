-- The newest backup that was verified, for the metric of its age.
CREATE TABLE backups (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    -- Seconds since 1970: of the snapshot.
    taken_at INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT;
