//! `plan`: what a load needs, as a sum that a reader can do again by hand. Measured unit costs come from a data file with
//! their provenance ([`costs`]); [`demand`] says what a fleet of a given size has to do and carry; [`fleet`] finds the
//! smallest one that can; [`steps`] writes the whole sum down, [`verdict`] what comes of it.
//!
//! Invariants: nothing is rounded but the numbers shown; no cost stands in the code; where a cost is used far from where
//! it was measured, the output says so.

mod account;
mod costs;
mod demand;
mod fleet;
mod options;
mod spread;
mod steps;
mod verdict;

use std::fs;

pub use self::options::Options;

use self::costs::Costs;
use crate::fail::{Fail, Result};

/// Prints the sum and, where asked for, writes it as JSON.
pub fn run(options: &Options) -> Result<()> {
    let load = options.load()?;
    let costs = match &options.costs {
        None => Costs::built_in()?,
        Some(path) => {
            let name = path.display().to_string();
            let text = fs::read_to_string(path).map_err(|error| Fail::Setup(format!("{name}: {error}")))?;
            Costs::parse(&text, &name)?
        }
    };
    let plan = verdict::plan(&load, &costs)?;
    print!("{}", plan.render());
    if let Some(path) = &options.json {
        fs::write(path, format!("{:#}\n", plan.json()))
            .map_err(|error| Fail::Setup(format!("{}: {error}", path.display())))?;
    }
    Ok(())
}
