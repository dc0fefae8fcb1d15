-- Background jobs that one node at a time does: who, and until when (milliseconds since 1970, by this server's clock).
CREATE TABLE jobs (
    name text COLLATE "C" PRIMARY KEY,
    holder text COLLATE "C" NOT NULL,
    until bigint NOT NULL
);
