-- The newest backup that was verified, for the metric of its age.
CREATE TABLE backups (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    -- Seconds since 1970: of the snapshot.
    taken_at bigint NOT NULL,
    bytes bigint NOT NULL
);
