//! The one integration binary: conformance suites, contract tests against whole nodes, simulation.

mod conformance_store;
mod support;
