//! What both stores know of their schema's versions: which steps are missing, whether this program may work on what newer
//! ones made of it, and the way back.
//!
//! Invariants: a migration leaves the programs of the release before able to go on, or says by its name since which version
//! they are (`V14__drops_x_needs_13`: programs that know V13, or newer ones); a program works on a schema with newer
//! migrations unless one of them needs more than it knows. So nodes of two releases can run, and start, side by side.

use refinery::Migration;

use crate::domain::ddl::{self, Dialect, Statement};
use crate::ports::StoreError;

/// A migration's number.
pub type Version = i32;

/// The migrations of this program for one kind of store.
pub struct Known {
    pub dialect: Dialect,
    pub migrations: Vec<Migration>,
    /// By name (`V1__log`): what leads back.
    pub back: &'static [(&'static str, &'static str)],
}

/// One migration, forward or back.
#[derive(Clone, Debug)]
pub struct Step {
    /// `V12__backups`
    pub name: String,
    pub forward: bool,
    pub sql: String,
    pub statements: Vec<Statement>,
}

/// How a store's schema stands to this program.
#[derive(Clone, Debug)]
pub struct Schema {
    /// 0: nothing is there.
    pub at: Version,
    pub ours: Version,
    /// Migrations that only newer programs know.
    pub newer: Vec<String>,
    /// What is to be done, in order.
    pub steps: Vec<Step>,
}

impl Known {
    fn newest(&self) -> Version {
        self.migrations.iter().map(Migration::version).max().unwrap_or_default()
    }

    /// Names of the migrations among `applied` that this program does not know and may leave alone.
    ///
    /// # Errors
    /// A fault where it may not work on such a schema, where a migration had another text, or where one in between is missing.
    pub fn newer(&self, applied: &[Migration]) -> Result<Vec<String>, StoreError> {
        let (ours, at) = (self.newest(), version(applied));
        let mut newer = Vec::new();
        for other in applied {
            match self.migrations.iter().find(|known| known.version() == other.version()) {
                Some(known) if known == other => {}
                Some(known) => {
                    let what = format!("the store was migrated by another {other} than this program's {known}");
                    return Err(StoreError::Fault(what));
                }
                None if other.version() < ours => {
                    return Err(StoreError::Fault(format!("the store has {other}, which no release has")));
                }
                None => match needs(other.name()) {
                    Some(needed) if needed > ours => {
                        let what = format!(
                            "the store has {other}: it needs a release that knows V{needed}, this one knows V{ours}"
                        );
                        return Err(StoreError::Fault(what));
                    }
                    _ => newer.push(other.to_string()),
                },
            }
        }
        let missing = self
            .migrations
            .iter()
            .find(|known| known.version() <= at && applied.iter().all(|other| other.version() != known.version()));
        match missing {
            Some(missing) => {
                Err(StoreError::Fault(format!("the store is at V{at}, but {missing} was never run there")))
            }
            None => Ok(newer),
        }
    }

    /// What [`crate::ports::MessageStore::migrate`] would do.
    ///
    /// # Errors
    /// As [`Self::newer`].
    pub fn forward(&self, applied: &[Migration]) -> Result<Schema, StoreError> {
        let (newer, at) = (self.newer(applied)?, version(applied));
        let mut missing: Vec<&Migration> = self.migrations.iter().filter(|known| known.version() > at).collect();
        missing.sort();
        let step = |known: &&Migration| self.step(known.to_string(), true, known.sql().unwrap_or_default());
        Ok(Schema { at, ours: self.newest(), newer, steps: missing.iter().map(step).collect() })
    }

    /// The ways back until the schema is at `to`, the newest first.
    ///
    /// # Errors
    /// A fault where this program doesn't know the way from what is there.
    pub fn backward(&self, applied: &[Migration], to: Version) -> Result<Schema, StoreError> {
        let (newer, at, ours) = (self.newer(applied)?, version(applied), self.newest());
        if let Some(newer) = newer.last() {
            return Err(StoreError::Fault(format!(
                "the store has {newer}: only a program that knows it knows its way back"
            )));
        }
        if !(0..=ours).contains(&to) {
            return Err(StoreError::Fault(format!("there is no V{to} to go back to (0 to {ours})")));
        }
        let mut done: Vec<&Migration> = applied.iter().filter(|done| done.version() > to).collect();
        done.sort();
        let back = |done: &&Migration| {
            let name = done.to_string();
            let way = self.back.iter().find(|(known, _)| *known == name);
            let (_, sql) = way.ok_or_else(|| StoreError::Fault(format!("there is no way back from {name}")))?;
            Ok(self.step(name, false, sql))
        };
        let steps = done.iter().rev().map(back).collect::<Result<Vec<_>, StoreError>>()?;
        Ok(Schema { at, ours, newer: Vec::new(), steps })
    }

    fn step(&self, name: String, forward: bool, sql: &str) -> Step {
        Step { name, forward, sql: sql.to_owned(), statements: ddl::statements(self.dialect, sql) }
    }
}

fn version(applied: &[Migration]) -> Version {
    applied.iter().map(Migration::version).max().unwrap_or_default()
}

/// The version that a migration of this name asks of programs, where it does.
fn needs(name: &str) -> Option<Version> {
    name.rsplit_once("_needs_")?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn migration(name: &str, sql: &str) -> Migration {
        Migration::unapplied(name, sql).expect("a good name")
    }

    fn known() -> Known {
        let migrations = vec![migration("V1__log", "CREATE TABLE a (x int)"), migration("V2__more", "DROP TABLE b")];
        Known {
            dialect: Dialect::Postgres,
            migrations,
            back: &[("V1__log", "DROP TABLE a"), ("V2__more", "CREATE TABLE b (x int)")],
        }
    }

    fn names(schema: Result<Schema, StoreError>) -> Vec<String> {
        schema.expect("possible").steps.into_iter().map(|step| step.name).collect()
    }

    fn fault<T>(result: Result<T, StoreError>) -> String {
        match result {
            Err(StoreError::Fault(what)) => what,
            _ => "no fault".to_owned(),
        }
    }

    #[test]
    fn the_steps_lead_there_and_back() {
        let known = known();
        let all = known.migrations.clone();
        assert_eq!(names(known.forward(&[])), ["V1__log", "V2__more"]);
        assert_eq!(names(known.forward(&all[..1])), ["V2__more"]);
        assert!(names(known.forward(&all)).is_empty());
        assert_eq!(names(known.backward(&all, 0)), ["V2__more", "V1__log"]);
        assert_eq!(names(known.backward(&all, 1)), ["V2__more"]);
        assert!(names(known.backward(&all, 2)).is_empty());
        assert!(fault(known.backward(&all, 3)).contains("no V3"));
        assert!(fault(known.backward(&all, -1)).contains("no V-1"));
        let schema = known.backward(&all, 0).expect("possible");
        assert!(schema.steps.iter().all(|step| !step.forward) && schema.steps[1].sql == "DROP TABLE a");
    }

    #[test]
    fn newer_migrations_are_left_alone_unless_they_need_more() {
        let known = known();
        let with = |name: &str| [known.migrations.clone(), vec![migration(name, "SELECT 1")]].concat();
        for fine in ["V3__anything", "V9__drops_needs_2", "V9__needs_nothing"] {
            let schema = known.forward(&with(fine)).expect("may be worked on");
            assert!(schema.newer == [fine] && schema.steps.is_empty());
            assert!(fault(known.backward(&with(fine), 1)).contains("only a program that knows it"));
        }
        let told = fault(known.forward(&with("V9__drops_needs_3")));
        assert!(told.contains("V9__drops_needs_3") && told.contains("knows V3, this one knows V2"), "{told}");
    }

    #[test]
    fn another_history_is_refused() {
        let known = known();
        let other = [migration("V1__log", "CREATE TABLE other (x int)")];
        assert!(fault(known.forward(&other)).contains("another V1__log"));
        assert!(fault(known.forward(&known.migrations[1..])).contains("V1__log was never run"));
        let gap = Known { migrations: vec![known.migrations[0].clone(), migration("V3__c", "SELECT 1")], ..known };
        let applied = [gap.migrations.clone(), vec![migration("V2__stray", "SELECT 1")]].concat();
        assert!(fault(gap.forward(&applied)).contains("V2__stray, which no release has"));
    }
}
