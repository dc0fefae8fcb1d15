//! Roundtable: a self-hosted chat backend in which a room is a durable, totally ordered log.
//!
//! ARCHITECTURE.md has the map. Modules use only what stands below them:
//! `main → startup → http → actors │ infra │ jobs → ports → protocol │ domain → ids, refusal, entry, limits`;
//! `health` and `smoke` ask from outside and use nothing of it; `config`, `metrics`, `outgoing` and `telemetry` serve from `actors`/`infra` up.

#![forbid(unsafe_code)]

pub mod actors;
pub mod auth;
pub mod backup;
pub mod blobs;
pub mod config;
pub mod domain;
pub mod entry;
pub mod health;
pub mod http;
pub mod ids;
pub mod infra;
pub mod jobs;
pub mod limits;
pub mod metrics;
pub mod migration;
pub mod outgoing;
pub mod ports;
pub mod protocol;
pub mod refusal;
#[cfg(feature = "seeded-bugs")]
pub mod seeded_bug;
pub mod smoke;
pub mod startup;
pub mod telemetry;
