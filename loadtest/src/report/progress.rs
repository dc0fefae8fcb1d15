//! What a run is doing, while it does it: two lines on a terminal that are drawn over again, or a plain line now and
//! then where nobody watches. All of it goes to stderr; stdout is the result's.
//!
//! Invariants: one write per drawing; whatever the terminal's width, a line never wraps (wrapping is off while it is
//! written, and on again within the same write, so that a kill leaves a sane terminal). A broken stderr stops nothing.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::number::{clock, compact, whole};

/// Between plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(10);
const BAR: usize = 14;

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Two lines, drawn over again.
    Terminal,
    /// A line every ten seconds, and one whenever a phase begins.
    Plain,
    /// Nothing but what is said by [`Progress::say`].
    Quiet,
}

impl Mode {
    pub fn of(quiet: bool) -> Self {
        match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Self::Quiet,
            (false, true) => Self::Terminal,
            (false, false) => Self::Plain,
        }
    }
}

/// The figures of this moment; rates over the last second or so, latencies in milliseconds where there are any.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LiveLine {
    pub sent_per_s: f64,
    pub acked_per_s: f64,
    pub deliveries_per_s: f64,
    pub ack_p99_ms: Option<f64>,
    pub delivery_p99_ms: Option<f64>,
    pub waiting: u64,
    pub errors: u64,
    pub connected: u64,
}

impl LiveLine {
    fn people(&self) -> String {
        let errors = if self.errors == 1 { "error" } else { "errors" };
        format!(
            "{} connected · {} waiting · {} {errors}",
            whole(self.connected),
            whole(self.waiting),
            whole(self.errors)
        )
    }

    fn rates(&self) -> String {
        let ms = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), compact);
        format!(
            "{} sent/s · {} acked/s · {} delivered/s · p99 ack {} delivery {} ms",
            whole(self.sent_per_s.max(0.0).round() as u64),
            whole(self.acked_per_s.max(0.0).round() as u64),
            whole(self.deliveries_per_s.max(0.0).round() as u64),
            ms(self.ack_p99_ms),
            ms(self.delivery_p99_ms),
        )
    }
}

/// Draws; cheap enough to be called several times a second. Dropping it clears what it drew.
pub struct Progress {
    mode: Mode,
    out: Box<dyn Write + Send>,
    phase: String,
    /// How far the phase is, in words, and as a share where its end is known.
    so_far: String,
    share: Option<f64>,
    line: Option<LiveLine>,
    /// Lines that stand on the terminal and are to be drawn over.
    drawn: usize,
    last_plain: Option<Instant>,
}

impl Progress {
    pub fn new(mode: Mode) -> Self {
        Self::to(mode, Box::new(std::io::stderr()))
    }

    fn to(mode: Mode, out: Box<dyn Write + Send>) -> Self {
        Self {
            mode,
            out,
            phase: String::new(),
            so_far: String::new(),
            share: None,
            line: None,
            drawn: 0,
            last_plain: None,
        }
    }

    /// A phase that counts something: `entering 4,200/10,000`. A `total` of 0: nobody knows how much there is.
    pub fn phase(&mut self, phase: &str, done: u64, total: u64) {
        let so_far = match (done, total) {
            (0, 0) => String::new(),
            (_, 0) => whole(done),
            _ => format!("{}/{}", whole(done), whole(total)),
        };
        self.step(phase, so_far, (total > 0).then(|| done as f64 / total as f64));
    }

    /// A phase that takes a known time: `measuring 1:23 / 5:00`. A `total_s` of 0: nobody knows how long.
    pub fn timed(&mut self, phase: &str, elapsed_s: f64, total_s: f64) {
        let known = total_s > 0.0;
        let so_far = if known { format!("{} / {}", clock(elapsed_s), clock(total_s)) } else { clock(elapsed_s) };
        self.step(phase, so_far, known.then(|| elapsed_s / total_s));
    }

    /// The figures of this moment.
    pub fn live(&mut self, line: &LiveLine) {
        self.line = Some(line.clone());
        self.draw(Instant::now());
    }

    /// A line that stays, above the bar. Shown in every mode.
    pub fn say(&mut self, text: &str) {
        let mut bytes = self.cleared();
        bytes += &plain(text);
        bytes.push('\n');
        self.write(&bytes);
        if self.mode == Mode::Terminal {
            self.draw(Instant::now());
        }
    }

    /// Takes the bar away.
    pub fn finish(&mut self) {
        let bytes = self.cleared();
        self.phase.clear();
        self.line = None;
        self.write(&bytes);
    }

    fn step(&mut self, phase: &str, so_far: String, share: Option<f64>) {
        let phase = plain(phase);
        if self.phase != phase {
            self.phase = phase;
            self.last_plain = None;
        }
        self.so_far = so_far;
        self.share = share.map(|share| share.clamp(0.0, 1.0));
        self.draw(Instant::now());
    }

    fn draw(&mut self, now: Instant) {
        if self.phase.is_empty() {
            return;
        }
        let people = self.line.as_ref().map(LiveLine::people);
        let rates = self.line.as_ref().map(LiveLine::rates);
        match self.mode {
            Mode::Quiet => {}
            Mode::Plain => {
                if self.last_plain.is_some_and(|last| now.duration_since(last) < PLAIN_EVERY) {
                    return;
                }
                self.last_plain = Some(now);
                let head = format!("{} {}", self.phase, self.so_far);
                let parts = std::iter::once(head.trim().to_owned()).chain(people).chain(rates);
                let text = parts.collect::<Vec<_>>().join(" · ");
                self.write(&format!("{text}\n"));
            }
            Mode::Terminal => {
                let mut head = format!("\x1b[1m{}\x1b[0m", self.phase);
                if let Some(share) = self.share {
                    head += &format!(" {}", bar(share));
                }
                let first = std::iter::once(format!("{head} {}", self.so_far)).chain(people);
                let first = first.collect::<Vec<_>>().join(" · ");
                let mut bytes = self.cleared();
                bytes += "\x1b[?7l";
                bytes += &first;
                self.drawn = 1;
                if let Some(rates) = rates {
                    bytes += "\n";
                    bytes += &rates;
                    self.drawn = 2;
                }
                bytes += "\x1b[?7h";
                self.write(&bytes);
            }
        }
    }

    /// What takes the drawn lines away and leaves the cursor where the first of them began.
    fn cleared(&mut self) -> String {
        match std::mem::take(&mut self.drawn) {
            0 => String::new(),
            1 => "\r\x1b[J".to_owned(),
            n => format!("\r\x1b[{}A\x1b[J", n - 1),
        }
    }

    fn write(&mut self, text: &str) {
        if !text.is_empty() {
            // Nobody to tell where stderr is gone, and the run is worth more than its picture.
            let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

fn bar(share: f64) -> String {
    let full = (share * BAR as f64).floor() as usize;
    format!("\x1b[34m{}\x1b[0m\x1b[2m{}\x1b[0m", "━".repeat(full), "─".repeat(BAR - full))
}

/// Without what would move a terminal's cursor: texts may come from the target.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Screen {
        fn taken(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
        }
    }

    fn progress(mode: Mode) -> (Progress, Screen) {
        let screen = Screen::default();
        (Progress::to(mode, Box::new(screen.clone())), screen)
    }

    fn line() -> LiveLine {
        LiveLine {
            sent_per_s: 50_000.4,
            acked_per_s: 49_998.0,
            deliveries_per_s: 1_234_567.0,
            ack_p99_ms: Some(12.34),
            delivery_p99_ms: None,
            waiting: 12,
            errors: 1,
            connected: 10_000,
        }
    }

    #[test]
    fn a_terminal_gets_two_lines_that_are_drawn_over_and_taken_away() {
        let (mut progress, screen) = progress(Mode::Terminal);
        progress.phase("entering", 4_200, 10_000);
        let text = screen.taken();
        assert!(text.contains("entering") && text.contains("4,200/10,000"), "{text:?}");
        assert_eq!(text.matches('━').count(), 5);
        assert!(!text.contains('\n'));

        progress.live(&line());
        let text = screen.taken();
        assert!(text.starts_with("\r\x1b[J"), "the one line before is taken away: {text:?}");
        assert!(text.contains("10,000 connected · 12 waiting · 1 error\n50,000 sent/s"), "{text:?}");
        assert!(text.contains("1,234,567 delivered/s · p99 ack 12.3 delivery – ms"), "{text:?}");
        assert!(text.ends_with("\x1b[?7h"), "wrapping is on again");

        progress.say("node 2 killed");
        let text = screen.taken();
        assert!(text.starts_with("\r\x1b[1A\x1b[Jnode 2 killed\n"), "{text:?}");
        assert!(text.contains("entering"), "drawn again below");

        drop(progress);
        assert_eq!(screen.taken(), "\r\x1b[1A\x1b[J");
    }

    #[test]
    fn without_a_terminal_there_is_a_plain_line_when_a_phase_begins_and_every_ten_seconds() {
        let (mut progress, screen) = progress(Mode::Plain);
        let start = Instant::now();
        progress.timed("measuring", 0.0, 300.0);
        progress.live(&line());
        progress.timed("measuring", 1.0, 300.0);
        assert_eq!(screen.taken(), "measuring 0:00 / 5:00\n");
        progress.timed("measuring", 11.0, 300.0);
        progress.draw(start + Duration::from_secs(11));
        let text = screen.taken();
        assert_eq!(text.lines().count(), 1);
        assert!(text.starts_with("measuring 0:11 / 5:00 · 10,000 connected") && !text.contains('\x1b'), "{text:?}");
        progress.phase("settling", 0, 0);
        assert!(screen.taken().starts_with("settling · "));
    }

    #[test]
    fn quiet_says_only_what_has_to_be_said_and_no_text_moves_the_cursor() {
        let (mut progress, screen) = progress(Mode::Quiet);
        progress.phase("entering", 1, 2);
        progress.live(&line());
        assert_eq!(screen.taken(), "");
        progress.say("bad\x1b[2J\nname");
        assert_eq!(screen.taken(), "bad [2J name\n");
    }
}
