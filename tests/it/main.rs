//! The one integration binary: conformance suites, contract tests against whole nodes, simulation.

mod cluster_failover;
mod cluster_log;
mod cluster_outage;
mod conformance_bus;
mod contract_admin;
mod contract_frames;
mod contract_hello;
mod contract_hostile;
mod contract_http;
mod contract_limits;
mod contract_log;
mod contract_slow_reader;
mod layering;
mod sim;
mod support;
