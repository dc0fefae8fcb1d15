//! When things are due. A schedule waits for nobody: it says what should have happened by now, and the caller catches up.

use crate::crowd::job::{Load, Step};

/// One stream of events at a rate that may change from step to step. Times are seconds since the load began.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Where each step ends, and its rate.
    steps: Vec<(f64, f64)>,
    at: usize,
    next_s: f64,
}

impl Stream {
    /// The same rate from `from_s` to `until_s`.
    pub fn steady(per_s: f64, from_s: f64, until_s: f64) -> Self {
        Self { steps: vec![(until_s, per_s)], at: 0, next_s: from_s }.settled()
    }

    /// The sends of a load: during the warm-up at the first step's rate.
    pub fn sends(load: &Load) -> Self {
        let mut end = load.warmup_s;
        let steps = load.steps.iter().map(|step| {
            end += step.seconds;
            (end, if step.sends_per_s.is_finite() { step.sends_per_s } else { 0.0 })
        });
        Self { steps: steps.collect(), at: 0, next_s: 0.0 }.settled()
    }

    /// Moves on to a step that has events.
    fn settled(mut self) -> Self {
        self.skip();
        self
    }

    fn skip(&mut self) {
        while let Some(&(end, rate)) = self.steps.get(self.at)
            && (self.next_s >= end || rate <= 0.0)
        {
            self.next_s = self.next_s.max(end);
            self.at += 1;
        }
    }

    /// When the next event is due; `None`: there are no more.
    pub fn next(&self) -> Option<f64> {
        (self.at < self.steps.len()).then_some(self.next_s)
    }

    /// The event that is due by `now_s`, if there is one.
    pub fn take(&mut self, now_s: f64) -> Option<f64> {
        let due = self.next().filter(|&due| due <= now_s)?;
        self.next_s += 1.0 / self.steps[self.at].1;
        self.skip();
        Some(due)
    }
}

/// The step that a time belongs to; `None`: warm-up, or after the end.
pub fn step_at(load: &Load, at_s: f64) -> Option<usize> {
    let mut end = load.warmup_s;
    if at_s < end {
        return None;
    }
    load.steps.iter().position(|step| {
        end += step.seconds;
        at_s < end
    })
}

/// Whole length of a load, warm-up included.
pub fn length_s(load: &Load) -> f64 {
    load.warmup_s + load.steps.iter().map(|step| step.seconds).sum::<f64>()
}

/// Whether the sends of some step are as many as the windows allow.
pub fn closed_loop(steps: &[Step]) -> bool {
    steps.iter().any(|step| step.sends_per_s.is_infinite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_missed_is_caught_up_with_at_its_intended_time() {
        let mut stream = Stream::steady(10.0, 1.0, 2.0);
        assert_eq!(stream.take(0.9), None);
        let due: Vec<f64> = std::iter::from_fn(|| stream.take(1.35)).collect();
        assert_eq!(due.len(), 4);
        assert!((due[3] - 1.3).abs() < 1e-9);
        assert_eq!(std::iter::from_fn(|| stream.take(9.0)).count(), 6, "and nothing after the end");
        assert_eq!(stream.next(), None);
    }

    #[test]
    fn rates_change_between_steps_and_a_step_may_be_silent() {
        let step = |seconds, sends_per_s| Step { seconds, sends_per_s };
        let load =
            Load { warmup_s: 1.0, steps: vec![step(1.0, 10.0), step(1.0, 0.0), step(1.0, 20.0)], ..Load::default() };
        let mut stream = Stream::sends(&load);
        let due: Vec<f64> = std::iter::from_fn(|| stream.take(100.0)).collect();
        let within = |from: f64, to: f64| due.iter().filter(|&&at| at >= from && at < to - 1e-9).count();
        assert_eq!((within(0.0, 2.0), within(2.0, 3.0), within(3.0, 4.0)), (20, 0, 20));
        assert_eq!([0.5, 1.5, 2.5, 3.5, 4.5].map(|at| step_at(&load, at)), [None, Some(0), Some(1), Some(2), None]);
    }
}
