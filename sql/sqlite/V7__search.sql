-- The index of texts, apart from the logs: a job follows the logs and fills it (src/jobs/indexer.rs). What it holds is a
-- copy; without it nothing is lost, and the job makes it again.

CREATE TABLE search (
    -- In the order in which messages were indexed; a message that is edited keeps it.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    room_no INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    user_id TEXT NOT NULL,
    -- The folded text (src/domain/search/fold.rs).
    body TEXT NOT NULL,
    -- Its words, the pairs of characters of scripts without blanks, and marks, with blanks between (src/domain/search).
    terms TEXT NOT NULL,
    UNIQUE (room_no, seq)
) STRICT;

-- The terms are made already, so the plainest tokenizer will do: it cuts at blanks and keeps all else together.
CREATE VIRTUAL TABLE search_terms USING fts5 (
    terms, content = 'search', content_rowid = 'id', detail = none, columnsize = 0,
    tokenize = "ascii tokenchars '#._-'"
);
-- For parts of words.
CREATE VIRTUAL TABLE search_within USING fts5 (
    body, content = 'search', content_rowid = 'id', detail = none, columnsize = 0, tokenize = 'trigram'
);
-- What is removed leaves no trace in the index, rather than until parts of it are next merged.
INSERT INTO search_terms (search_terms, rank) VALUES ('secure-delete', 1);
INSERT INTO search_within (search_within, rank) VALUES ('secure-delete', 1);

-- Whoever erases a text deletes its row of `search`; the rest follows.
CREATE TRIGGER search_added AFTER INSERT ON search BEGIN
    INSERT INTO search_terms (rowid, terms) VALUES (new.id, new.terms);
    INSERT INTO search_within (rowid, body) VALUES (new.id, new.body);
END;
CREATE TRIGGER search_removed AFTER DELETE ON search BEGIN
    INSERT INTO search_terms (search_terms, rowid, terms) VALUES ('delete', old.id, old.terms);
    INSERT INTO search_within (search_within, rowid, body) VALUES ('delete', old.id, old.body);
END;
CREATE TRIGGER search_changed AFTER UPDATE ON search BEGIN
    INSERT INTO search_terms (search_terms, rowid, terms) VALUES ('delete', old.id, old.terms);
    INSERT INTO search_within (search_within, rowid, body) VALUES ('delete', old.id, old.body);
    INSERT INTO search_terms (rowid, terms) VALUES (new.id, new.terms);
    INSERT INTO search_within (rowid, body) VALUES (new.id, new.body);
END;

-- How far each room's log is in the index.
CREATE TABLE search_progress (
    room_no INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL
) STRICT;
