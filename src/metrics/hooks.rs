//! Other servers that are asked before a text is stored, and told afterwards.

use std::time::Duration;

use prometheus::{Histogram, IntCounter};

use super::Metrics;
use super::make::{LATENCY, Maker};

/// What the hook before a message is stored said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookAnswer {
    Allow,
    Change,
    Refuse,
    /// Nothing in time, or nothing that makes sense.
    Away,
}

/// What became of a request to a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookOutcome {
    Delivered,
    /// To be tried again.
    Failed,
    /// Given up.
    Dead,
    /// The receiver wants no more.
    Gone,
}

pub(super) struct Hooks {
    answers: [IntCounter; 4],
    latency: Histogram,
    webhook_requests: [IntCounter; 4],
    webhook_latency: Histogram,
}

impl Hooks {
    pub(super) fn new(make: &Maker) -> Self {
        Self {
            answers: make.counters(
                "hook_before_send_answers",
                "Texts that the hook before sending was asked about, by what it said.",
                "answer",
                ["allow", "change", "refuse", "away"],
            ),
            latency: make.histogram(
                "hook_before_send_latency_seconds",
                "From a question to the hook before sending to its answer.",
                LATENCY,
            ),
            webhook_requests: make.counters(
                "webhook_requests",
                "Requests to webhooks, by what became of them.",
                "outcome",
                ["delivered", "failed", "dead", "gone"],
            ),
            webhook_latency: make.histogram(
                "webhook_requests_latency_seconds",
                "From a request to a webhook to its answer.",
                LATENCY,
            ),
        }
    }
}

impl Metrics {
    /// The hook before sending was asked.
    pub fn hook_answered(&self, answer: HookAnswer) {
        self.hooks.answers[answer as usize].inc();
    }

    /// The hook before sending answered, or was given up.
    pub fn hook_took(&self, took: Duration) {
        self.hooks.latency.observe(took.as_secs_f64());
    }

    /// A request to a webhook ended.
    pub fn webhook_answered(&self, outcome: WebhookOutcome, took: Duration) {
        self.hooks.webhook_requests[outcome as usize].inc();
        self.hooks.webhook_latency.observe(took.as_secs_f64());
    }
}
