//! `ramp`: the rate rises step by step until latency breaks its objective or acks fall behind; the last rate that held is
//! the knee.

use std::time::{Duration, Instant};

use crate::crowd::job::Step;
use crate::crowd::session::nonce;
use crate::fail::Result;
use crate::report::outcome::{Mark, Outcome};
use crate::scenario::command::Stage;
use crate::scenario::{Scenario, Size, plan};

const MOST_STEPS: usize = 40;
const GROWTH: f64 = 1.4;
/// Acks of a step that must be there at its end, as a share of what was due.
const KEPT_UP: f64 = 0.95;

/// Starts at the size's rate; its seconds are those of a step.
pub fn run(stage: &Stage, size: &Size, p99_ms: f64) -> Result<Outcome> {
    let (population, mut load) = plan(Scenario::Ramp, &nonce(), size);
    load.steps = (0..MOST_STEPS)
        .map(|n| Step { seconds: size.seconds, sends_per_s: (size.sends_per_s * GROWTH.powi(n as i32)).round() })
        .collect();
    let steps = load.steps.clone();
    let mut session = stage.session("ramp", "", population, load)?;
    session.go()?;
    let begin = Instant::now();
    let (mut end_s, mut knee, mut broke) = (size.warmup_s, None, None);
    session.attend(begin + Duration::from_secs_f64(end_s))?;
    session.take_p99s();
    for step in &steps {
        let (start_s, before) = (end_s, session.live().clone());
        end_s += step.seconds;
        if !session.attend(begin + Duration::from_secs_f64(end_s))? {
            break;
        }
        let live = session.live();
        let (acked, errors) = ((live.acked - before.acked) as f64, live.errors - before.errors);
        let (ack, delivery) = session.take_p99s();
        let worst = ack.into_iter().chain(delivery).fold(0.0, f64::max);
        let share = acked / (step.sends_per_s * step.seconds);
        let held = worst <= p99_ms && share >= KEPT_UP && errors == 0;
        let rate = step.sends_per_s;
        let shown = |p99: Option<f64>| p99.map_or("–".to_owned(), |ms| format!("{ms:.1}"));
        let what = format!(
            "{rate}/s: ack p99 {} ms, delivery p99 {} ms, {:.0} % acked, {errors} errors: {}",
            shown(ack),
            shown(delivery),
            100.0 * share,
            if held { "held" } else { "too much" }
        );
        session.say(&what);
        session.mark(Mark { at_s: start_s, until_s: Some(end_s), what, longest_wait_ms: None });
        if !held {
            broke = Some(rate);
            break;
        }
        knee = Some(rate);
    }
    let mut outcome = session.end()?;
    for (name, value) in [("knee_per_s", knee), ("broke_at_per_s", broke)] {
        if let Some(value) = value {
            outcome.figures.insert(name.into(), value);
        }
    }
    Ok(outcome)
}
