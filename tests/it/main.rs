//! The one integration binary: conformance suites, contract tests against whole nodes, simulation.

mod accounts;
mod cluster;
mod cluster_failover;
mod cluster_log;
mod cluster_outage;
mod command_line;
mod conformance_bus;
mod conformance_store;
mod contract_admin;
mod contract_browser;
mod contract_frames;
mod contract_hello;
mod contract_hostile;
mod contract_http;
mod contract_limits;
mod contract_log;
mod contract_oidc;
mod contract_slow_reader;
mod contract_tls;
mod layering;
mod seeded_bugs;
mod seeds;
mod sim;
mod support;
