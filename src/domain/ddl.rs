//! What the statements of a migration ask of a store that is in use: how much they do, and whom they keep waiting.
//!
//! Told from the words of a statement alone, so only for the forms that migrations here are written in; whatever is in
//! another form is [`Work::Unknown`], never guessed. What a migration made itself keeps nobody waiting.

use std::fmt;

/// Whose rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Postgres,
    /// A file with one writer: its server is stopped while it is migrated, so that nobody waits for a lock.
    Sqlite,
}

/// How much is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// As much for a large table as for an empty one.
    Quick,
    /// All rows are read.
    Reads,
    /// All rows are written anew.
    Rewrites,
    /// Some or all rows are changed.
    Changes,
    /// Not to be told from its words.
    Unknown,
}

/// Who waits for it, until the migration ends: its locks are kept that long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    Nobody,
    /// Whoever changes the same rows.
    SameRows,
    /// Whoever writes to the table.
    Writers,
    /// Whoever uses the table at all.
    Everybody,
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Its first words, as `CREATE INDEX logins_expiry`.
    pub head: String,
    /// The table that it is about, unless the migration made it.
    pub table: Option<String>,
    pub work: Work,
    pub waits: Waits,
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.table.as_deref().unwrap_or("the table");
        write!(f, "{}: ", self.head)?;
        match self.work {
            Work::Quick => f.write_str("quick")?,
            Work::Reads => write!(f, "reads all of {table}")?,
            Work::Rewrites => write!(f, "writes all of {table} anew")?,
            Work::Changes => write!(f, "changes rows of {table}, the longer the more there are")?,
            Work::Unknown => return f.write_str("not to be told from its words: read it (--sql)"),
        }
        match self.waits {
            Waits::Nobody => Ok(()),
            Waits::SameRows => f.write_str("; who changes the same rows waits until the migration ends"),
            Waits::Writers => write!(f, "; who writes to {table} waits until the migration ends"),
            Waits::Everybody => write!(f, "; who uses {table} waits until the migration ends"),
        }
    }
}

/// The statements of a migration, in order.
pub fn statements(dialect: Dialect, sql: &str) -> Vec<Statement> {
    let mut made = Vec::new();
    split(sql).iter().filter_map(|words| Reader { dialect, words, made: &mut made }.read()).collect()
}

struct Reader<'a> {
    dialect: Dialect,
    /// In capitals but for names as they stand.
    words: &'a [String],
    /// Tables that this migration made.
    made: &'a mut Vec<String>,
}

/// Functions that give another value for every row, so that a column with such a default is written for each.
const VOLATILE: [&str; 4] = ["clock_timestamp", "random", "gen_random_uuid", "nextval"];

impl Reader<'_> {
    fn word(&self, place: usize) -> &str {
        self.words.get(place).map_or("", String::as_str)
    }

    fn is(&self, place: usize, word: &str) -> bool {
        self.word(place).eq_ignore_ascii_case(word)
    }

    fn position(&self, word: &str) -> Option<usize> {
        self.words.iter().position(|other| other.eq_ignore_ascii_case(word))
    }

    fn has(&self, word: &str) -> bool {
        self.position(word).is_some()
    }

    /// The name behind `word`, and behind `IF [NOT] EXISTS` and `ONLY`.
    fn behind(&self, word: &str) -> Option<String> {
        let at = self.position(word)? + 1;
        let name = self.words[at..].iter().find(|word| {
            !["IF", "NOT", "EXISTS", "ONLY", "CONCURRENTLY"].iter().any(|skipped| word.eq_ignore_ascii_case(skipped))
        })?;
        Some(name.trim_matches('"').to_owned())
    }

    fn told(&self, head: &[&str], table: Option<String>, work: Work, waits: Waits) -> Option<Statement> {
        let ours = table.as_ref().is_some_and(|table| self.made.contains(table));
        let alone = ours || self.dialect == Dialect::Sqlite;
        Some(Statement {
            head: head.join(" "),
            table: table.filter(|_| !ours),
            work: if ours { Work::Quick } else { work },
            waits: if alone { Waits::Nobody } else { waits },
        })
    }

    fn read(&mut self) -> Option<Statement> {
        let first = self.word(0).to_ascii_uppercase();
        match first.as_str() {
            "" | "SET" | "COMMENT" => None,
            "CREATE" => self.create(),
            "ALTER" if self.is(1, "TABLE") => self.alter(),
            "DROP" => self.drop(),
            "INSERT" => {
                let table = self.behind("INTO");
                self.told(&["INSERT INTO", table.as_deref()?], table.clone(), Work::Changes, Waits::SameRows)
            }
            // The records of migrations are nobody else's.
            "DELETE" if self.behind("FROM").is_some_and(|table| table == "refinery_schema_history") => None,
            "DELETE" => {
                let table = self.behind("FROM");
                self.told(&["DELETE FROM", table.as_deref()?], table.clone(), Work::Changes, Waits::SameRows)
            }
            "UPDATE" => {
                let table = self.behind("UPDATE");
                self.told(&["UPDATE", table.as_deref()?], table.clone(), Work::Changes, Waits::SameRows)
            }
            _ => self.told(&[&first, self.word(1)], None, Work::Unknown, Waits::Nobody),
        }
    }

    fn create(&mut self) -> Option<Statement> {
        let (at_table, at_paren) = (self.position("TABLE"), self.position("(").unwrap_or(usize::MAX));
        if at_table.is_some_and(|at| at < at_paren.min(4)) {
            let name = self.behind("TABLE")?;
            // Its keys point at another table: that one is locked against changes of rows' keys, whose checks come to be.
            let other = self.behind("REFERENCES").filter(|other| !self.made.contains(other) && *other != name);
            self.made.push(name.clone());
            let waits = if other.is_some() { Waits::Writers } else { Waits::Nobody };
            let work = if self.has("AS") && self.has("SELECT") { Work::Unknown } else { Work::Quick };
            return self.told(&["CREATE TABLE", &name], other, work, waits);
        }
        if self.position("INDEX").is_some_and(|at| at <= 2) {
            let name = self.behind("INDEX")?;
            return self.told(&["CREATE INDEX", &name], self.behind("ON"), Work::Reads, Waits::Writers);
        }
        if self.position("TRIGGER").is_some_and(|at| at <= 3) {
            let name = self.behind("TRIGGER")?;
            return self.told(&["CREATE TRIGGER", &name], self.behind("ON"), Work::Quick, Waits::Writers);
        }
        let kind = ["FUNCTION", "VIEW", "TYPE", "SEQUENCE", "EXTENSION"]
            .into_iter()
            .find(|kind| self.position(kind).is_some_and(|at| at <= 3));
        match kind {
            Some(kind) => self.told(&["CREATE", kind, &self.behind(kind)?], None, Work::Quick, Waits::Nobody),
            None => self.told(&["CREATE", self.word(1)], None, Work::Unknown, Waits::Nobody),
        }
    }

    fn alter(&self) -> Option<Statement> {
        let table = self.behind("TABLE");
        let head = ["ALTER TABLE", table.as_deref()?];
        let volatile = self.words.iter().any(|word| VOLATILE.contains(&word.to_ascii_lowercase().as_str()));
        let adds = self.has("ADD");
        let validates = self.has("CONSTRAINT") || self.has("CHECK") || self.has("FOREIGN") || self.has("REFERENCES");
        let says = |phrase: &[&str]| {
            let same = |(word, wanted): (&String, &&str)| word.eq_ignore_ascii_case(wanted);
            self.words.windows(phrase.len()).any(|words| words.iter().zip(phrase).all(same))
        };
        let work = match self.dialect {
            // A dropped column is taken out of every row.
            Dialect::Sqlite if says(&["DROP", "COLUMN"]) => Work::Rewrites,
            Dialect::Sqlite => Work::Quick,
            Dialect::Postgres if self.has("TYPE") || self.has("STORED") || self.has("IDENTITY") => Work::Rewrites,
            Dialect::Postgres if adds && volatile => Work::Rewrites,
            Dialect::Postgres if says(&["SET", "NOT", "NULL"]) || adds && validates && !says(&["NOT", "VALID"]) => {
                Work::Reads
            }
            Dialect::Postgres => Work::Quick,
        };
        self.told(&head, table.clone(), work, Waits::Everybody)
    }

    fn drop(&self) -> Option<Statement> {
        let kind = self.word(1).to_ascii_uppercase();
        let name = self.behind(&kind)?;
        let head = ["DROP", &kind, &name];
        match kind.as_str() {
            "TABLE" => self.told(&head, Some(name.clone()), Work::Quick, Waits::Everybody),
            "TRIGGER" => self.told(&head, self.behind("ON"), Work::Quick, Waits::Everybody),
            // Whose table it is, its name does not say.
            "INDEX" => self.told(&head, None, Work::Quick, Waits::Everybody),
            "FUNCTION" | "VIEW" | "TYPE" | "SEQUENCE" => self.told(&head, None, Work::Quick, Waits::Nobody),
            _ => self.told(&["DROP", &kind], None, Work::Unknown, Waits::Nobody),
        }
    }
}

/// The words of each statement, comments and the insides of quotes left out; a semicolon inside of a trigger's `BEGIN … END`
/// ends no statement.
fn split(sql: &str) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    let (mut words, mut depth): (Vec<String>, u32) = (Vec::new(), 0);
    let mut rest = sql;
    while let Some(c) = rest.chars().next() {
        let length = if rest.starts_with("--") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if c == '\'' || c == '$' {
            // Two quotes in a row are two texts in a row: what is inside does not matter.
            let mark = if c == '\'' { "'" } else { &rest[..rest[1..].find('$').map_or(1, |end| end + 2)] };
            rest[mark.len()..].find(mark).map_or(rest.len(), |end| end + 2 * mark.len())
        } else if c == '"' {
            let length = rest[1..].find('"').map_or(rest.len(), |end| end + 2);
            words.push(rest[..length].to_owned());
            length
        } else if c.is_alphanumeric() || c == '_' {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '.').unwrap_or(rest.len());
            let word = &rest[..length];
            let in_trigger = words.iter().take(4).any(|word| word.eq_ignore_ascii_case("TRIGGER"));
            if in_trigger && (word.eq_ignore_ascii_case("BEGIN") || word.eq_ignore_ascii_case("CASE")) {
                depth += 1;
            } else if word.eq_ignore_ascii_case("END") {
                depth = depth.saturating_sub(1);
            }
            words.push(word.to_owned());
            length
        } else {
            if c == ';' && depth == 0 {
                all.push(std::mem::take(&mut words));
            } else if c == '(' {
                words.push("(".to_owned());
            }
            c.len_utf8()
        };
        rest = &rest[length.min(rest.len())..];
    }
    all.push(words);
    all.retain(|words| !words.is_empty());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(dialect: Dialect, sql: &str) -> Vec<String> {
        statements(dialect, sql).iter().map(ToString::to_string).collect()
    }

    fn one(sql: &str) -> (Work, Waits) {
        let all = statements(Dialect::Postgres, sql);
        assert_eq!(all.len(), 1, "{sql}: {all:?}");
        (all[0].work, all[0].waits)
    }

    #[test]
    fn what_a_migration_made_itself_keeps_nobody_waiting() {
        let sql = "-- A comment; with a semicolon.\nCREATE TABLE a (x int, y text DEFAULT 'it''s; fine');\n\
                   CREATE UNIQUE INDEX a_x ON a (x); ALTER TABLE a ADD CHECK (x > 0); INSERT INTO a VALUES (1);";
        let all = told(Dialect::Postgres, sql);
        assert_eq!(
            all,
            ["CREATE TABLE a: quick", "CREATE INDEX a_x: quick", "ALTER TABLE a: quick", "INSERT INTO a: quick"]
        );
    }

    #[test]
    fn what_is_there_is_read_rewritten_or_locked() {
        use Waits::{Everybody, Nobody, SameRows, Writers};
        use Work::{Changes, Quick, Reads, Rewrites, Unknown};
        for (sql, work, waits) in [
            ("CREATE INDEX IF NOT EXISTS i ON t (x)", Reads, Writers),
            ("ALTER TABLE t ADD COLUMN x int", Quick, Everybody),
            ("ALTER TABLE t ADD COLUMN x bigint NOT NULL DEFAULT (extract(epoch FROM now()))", Quick, Everybody),
            ("ALTER TABLE t ADD COLUMN x bigint DEFAULT extract(epoch FROM clock_timestamp())", Rewrites, Everybody),
            ("ALTER TABLE t ALTER COLUMN x TYPE bigint", Rewrites, Everybody),
            ("ALTER TABLE t ADD COLUMN x int GENERATED ALWAYS AS (y + 1) STORED", Rewrites, Everybody),
            ("ALTER TABLE t ALTER COLUMN x SET NOT NULL", Reads, Everybody),
            ("ALTER TABLE t ADD CONSTRAINT c CHECK (x > 0)", Reads, Everybody),
            ("ALTER TABLE t ADD CONSTRAINT c CHECK (x > 0) NOT VALID", Quick, Everybody),
            ("ALTER TABLE t DROP COLUMN x", Quick, Everybody),
            ("CREATE TABLE u (t bigint REFERENCES t (no))", Quick, Writers),
            ("CREATE TRIGGER g AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()", Quick, Writers),
            (
                "CREATE OR REPLACE FUNCTION f() RETURNS int AS $$ BEGIN; RETURN 1; END; $$ LANGUAGE plpgsql",
                Quick,
                Nobody,
            ),
            ("UPDATE t SET x = 1", Changes, SameRows),
            ("DELETE FROM t", Changes, SameRows),
            ("DROP TABLE t", Quick, Everybody),
            ("DROP FUNCTION f", Quick, Nobody),
            ("DO $do$ BEGIN; DELETE FROM t; END; $do$", Unknown, Nobody),
            ("VACUUM FULL t", Unknown, Nobody),
        ] {
            assert_eq!(one(sql), (work, waits), "{sql}");
        }
        let all = told(Dialect::Postgres, "CREATE INDEX i ON t (x)");
        assert_eq!(all, ["CREATE INDEX i: reads all of t; who writes to t waits until the migration ends"]);
        assert!(
            statements(Dialect::Postgres, "SET LOCAL x = 1; DELETE FROM refinery_schema_history WHERE version = 1")
                .is_empty()
        );
    }

    #[test]
    fn a_file_with_one_writer_knows_time_but_no_locks() {
        let sql = "CREATE TRIGGER g AFTER INSERT ON t BEGIN UPDATE u SET x = CASE WHEN 1 THEN 2 END; DELETE FROM v; END;\
                   ALTER TABLE t DROP COLUMN x; ALTER TABLE t ADD COLUMN y INTEGER; CREATE INDEX i ON t (y);";
        let all = told(Dialect::Sqlite, sql);
        assert_eq!(
            all,
            [
                "CREATE TRIGGER g: quick",
                "ALTER TABLE t: writes all of t anew",
                "ALTER TABLE t: quick",
                "CREATE INDEX i: reads all of t"
            ]
        );
    }
}
