//! The one integration binary: conformance suites, contract tests against whole nodes, simulation.

mod cluster;
mod conformance_bus;
mod support;
