//! How a run ends early. The exit status tells a script which it was: 1 the server broke its contract, 2 the run could
//! not be set up, 130 somebody stopped it.

use std::fmt;

#[derive(Debug)]
pub enum Fail {
    /// What was seen contradicts the contract: a gap, a repeat, a lost connection, an unexpected refusal.
    Broken(String),
    /// Something needed for the run is missing or did not start.
    Setup(String),
    /// The report's file, and why it could not be written.
    Unwritten(String),
    /// SIGINT, SIGTERM or SIGHUP.
    Interrupted,
}

pub type Result<T> = std::result::Result<T, Fail>;

impl Fail {
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Broken(_) => 1,
            Self::Setup(_) | Self::Unwritten(_) => 2,
            Self::Interrupted => 130,
        }
    }
}

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(what) => write!(f, "contract broken: {what}"),
            Self::Setup(what) => write!(f, "can't run: {what}"),
            Self::Unwritten(what) => write!(f, "can't write the report {what}"),
            Self::Interrupted => f.write_str("stopped"),
        }
    }
}

impl From<std::io::Error> for Fail {
    fn from(error: std::io::Error) -> Self {
        Self::Setup(error.to_string())
    }
}
