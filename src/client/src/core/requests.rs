//! Requests that outlive connections: asked until an answer decides, each lane's one after the other, so that none that is
//! repeated comes behind a later one.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use super::link::Asker;
use super::types::{Act, Answer, Output, Ticket};
use super::{Core, Timer};
use crate::closing::Pace;
use crate::error::{Code, Error};
use crate::frames::{ClientFrame, ServerFrame};

const REPEAT: Pace = Pace { jitter: Duration::from_millis(250), most: Duration::from_secs(10) };

/// What goes one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lane {
    Messages(String),
    Acts(String),
}

/// Who wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The message of that place in the outbox.
    Message(u64),
    Ticket(Ticket),
    /// A page of what a reset left out.
    Fill {
        room: String,
        placing: u64,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Job {
    frame: ClientFrame,
    purpose: Purpose,
    lane: Option<Lane>,
    asked: bool,
    /// Not to be asked before.
    due: Duration,
    attempt: u32,
    faults: u32,
    /// When it has failed.
    deadline: Option<Duration>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Jobs {
    all: BTreeMap<u64, Job>,
    lanes: HashMap<Lane, VecDeque<u64>>,
    by_ticket: HashMap<Ticket, u64>,
    next: u64,
    /// Those that are not of the outbox, which has bounds of its own.
    others: usize,
}

impl Core {
    pub fn act(&mut self, room: &str, act: Act, ticket: Ticket) {
        let room_id = room.to_owned();
        let frame = match act {
            Act::Edit { target, text } => ClientFrame::Edit { r#ref: None, room: room_id, target, text },
            Act::Delete { target } => ClientFrame::Delete { r#ref: None, room: room_id, target },
            Act::React { target, emoji, active } => {
                ClientFrame::React { r#ref: None, room: room_id, target, emoji, active }
            }
            Act::Join => ClientFrame::Join { r#ref: None, room: room_id },
            Act::Leave => ClientFrame::Leave { r#ref: None, room: room_id },
        };
        self.other(frame, Purpose::Ticket(ticket), Some(Lane::Acts(room.to_owned())), None);
    }

    /// A page of the log in rising seq: before or after a seq, or the newest.
    pub fn history(&mut self, room: &str, bounds: (Option<u64>, Option<u64>, Option<u64>), ticket: Ticket) {
        let frame = ClientFrame::history(room, bounds.0, bounds.1, bounds.2);
        let deadline = self.now + self.setup.patience.read;
        self.other(frame, Purpose::Ticket(ticket), None, Some(deadline));
    }

    /// Takes a request back. It may have taken effect all the same.
    pub fn cancel(&mut self, ticket: Ticket) {
        if let Some(job) = self.jobs.by_ticket.get(&ticket).copied() {
            self.end_job(job);
        }
    }

    pub(super) fn other(&mut self, frame: ClientFrame, purpose: Purpose, lane: Option<Lane>, until: Option<Duration>) {
        let refused = match self.over() {
            Some(error) => Some(error),
            None if self.jobs.others >= self.setup.bounds.requests => {
                Some(Error::new(Code::QueueFull, format!("{} requests wait already", self.jobs.others)))
            }
            None => None,
        };
        match refused {
            Some(error) => self.tell_purpose(&purpose, Err(error)),
            None => self.add_job(frame, purpose, lane, until),
        }
    }

    pub(super) fn add_job(
        &mut self,
        frame: ClientFrame,
        purpose: Purpose,
        lane: Option<Lane>,
        deadline: Option<Duration>,
    ) {
        self.jobs.next += 1;
        let number = self.jobs.next;
        match &purpose {
            Purpose::Message(_) => {}
            Purpose::Ticket(ticket) => {
                self.jobs.by_ticket.insert(*ticket, number);
                self.jobs.others += 1;
            }
            Purpose::Fill { .. } => self.jobs.others += 1,
        }
        if let Some(lane) = &lane {
            self.jobs.lanes.entry(lane.clone()).or_default().push_back(number);
        }
        if let Some(at) = deadline {
            self.timers.insert((at, Timer::Job(number)));
        }
        let job = Job { frame, purpose, lane, asked: false, due: self.now, attempt: 0, faults: 0, deadline };
        self.jobs.all.insert(number, job);
        self.start_job(number);
    }

    /// Asks, where there is a connection and it is its turn.
    fn start_job(&mut self, number: u64) {
        let Some(job) = self.jobs.all.get_mut(&number) else { return };
        let its_turn = match &job.lane {
            Some(lane) => self.jobs.lanes.get(lane).and_then(VecDeque::front) == Some(&number),
            None => true,
        };
        if !self.serving || job.asked || job.due > self.now || !its_turn {
            return;
        }
        let most = self.limits.as_ref().map_or(65_536, |limits| limits.frame_bytes);
        if let Some(bytes) = too_large(&job.frame, most) {
            let why = format!("{bytes} bytes, more than the {most} that a frame may have");
            return self.finish_job(number, Err(Error::new(Code::BadRequest, why)));
        }
        job.asked = true;
        let frame = job.frame.clone();
        if let Purpose::Message(n) = job.purpose {
            self.message_waits(n, None);
        }
        if let Some(link) = &mut self.link {
            link.ask(Asker::Job(number), frame, self.now);
        }
    }

    /// A connection takes requests: what is older goes first.
    pub(super) fn start_jobs(&mut self) {
        for number in self.jobs.all.keys().copied().collect::<Vec<_>>() {
            self.start_job(number);
        }
    }

    pub(super) fn job_time(&mut self, number: u64) {
        let Some(job) = self.jobs.all.get(&number) else { return };
        if job.deadline.is_some_and(|at| at <= self.now) {
            let within = self.setup.patience.read.as_millis();
            let error = Error::new(Code::Timeout, format!("no answer within {within} ms"));
            self.finish_job(number, Err(error));
        } else {
            self.start_job(number);
        }
    }

    pub(super) fn job_answered(&mut self, number: u64, frame: ServerFrame) {
        let Some(job) = self.jobs.all.get_mut(&number) else { return };
        let ServerFrame::Error(refusal) = frame else {
            return self.finish_job(number, Ok(frame));
        };
        let error = Error::from(refusal);
        let again = if error.code == Code::Internal {
            job.faults += 1;
            job.faults <= 1
        } else {
            error.retryable
        };
        if !again {
            return self.finish_job(number, Err(error));
        }
        let wait = error.retry_after.unwrap_or_default() + REPEAT.wait(job.attempt.min(6), self.chance);
        job.attempt += 1;
        job.asked = false;
        job.due = self.now + wait;
        self.timers.insert((job.due, Timer::Job(number)));
        if let Purpose::Message(n) = job.purpose {
            self.message_waits(n, Some(error));
        }
    }

    /// The connection ended before the answer: the next one asks again.
    pub(super) fn job_lost(&mut self, number: u64, error: &Error) {
        let Some(job) = self.jobs.all.get_mut(&number) else { return };
        job.asked = false;
        job.due = self.now;
        if let Purpose::Message(n) = job.purpose {
            self.message_waits(n, Some(error.clone()));
        }
    }

    fn finish_job(&mut self, number: u64, result: Result<ServerFrame, Error>) {
        let Some(job) = self.end_job(number) else { return };
        if let (Ok(_), ClientFrame::Join { room, .. } | ClientFrame::Leave { room, .. }) = (&result, &job.frame) {
            let role = match &result {
                Ok(ServerFrame::Ok(ok)) => ok.role.clone(),
                _ => None,
            };
            self.role_is(room, role);
        }
        self.tell_purpose(&job.purpose, result);
    }

    /// Takes it out; the next one of its lane begins.
    pub(super) fn end_job(&mut self, number: u64) -> Option<Job> {
        let job = self.jobs.all.remove(&number)?;
        match job.purpose {
            Purpose::Message(_) => {}
            Purpose::Ticket(ticket) => {
                self.jobs.by_ticket.remove(&ticket);
                self.jobs.others -= 1;
            }
            Purpose::Fill { .. } => self.jobs.others -= 1,
        }
        if let Some(link) = &mut self.link {
            link.forget(number);
        }
        if let Some(lane) = &job.lane
            && let Some(waiting) = self.jobs.lanes.get_mut(lane)
        {
            waiting.retain(|other| *other != number);
            match waiting.front().copied() {
                Some(next) => self.start_job(next),
                None => drop(self.jobs.lanes.remove(lane)),
            }
        }
        Some(job)
    }

    /// The request of a message in the outbox, where there is one.
    pub(super) fn job_of_message(&self, n: u64) -> Option<u64> {
        self.jobs.all.iter().find(|(_, job)| job.purpose == Purpose::Message(n)).map(|(number, _)| *number)
    }

    /// Whoever waits is told that it is over. Messages stay: a new connection, or the next process, sends them.
    pub(super) fn fail_jobs(&mut self, error: &Error) {
        let waits = |job: &&Job| !matches!(job.purpose, Purpose::Message(_));
        let others = self.jobs.all.iter().filter(|(_, job)| waits(job)).map(|(number, _)| *number);
        for number in others.collect::<Vec<_>>() {
            self.finish_job(number, Err(error.clone()));
        }
    }

    fn tell_purpose(&mut self, purpose: &Purpose, result: Result<ServerFrame, Error>) {
        match purpose {
            Purpose::Message(n) => self.message_decided(*n, result),
            Purpose::Fill { room, placing } => self.page_came(room, *placing, result),
            Purpose::Ticket(ticket) => {
                let result = result.map(|frame| match frame {
                    ServerFrame::Ok(ok) => Answer::Ok { seq: ok.seq.flatten(), role: ok.role },
                    ServerFrame::History(page) => Answer::History(page),
                    _ => Answer::Done,
                });
                self.put(Output::Done { ticket: *ticket, result });
            }
        }
    }
}

/// The bytes of a frame, where they are more than `most`. Only what may be large is measured.
fn too_large(frame: &ClientFrame, most: u64) -> Option<usize> {
    let small = match frame {
        ClientFrame::Send { text, data, .. } => data.is_none() && (text.len() as u64) * 6 + 1024 < most,
        ClientFrame::Edit { text, .. } => (text.len() as u64) * 6 + 1024 < most,
        _ => true,
    };
    if small {
        return None;
    }
    // With room for the `ref`.
    let bytes = serde_json::to_vec(frame).map_or(0, |json| json.len()) + 32;
    (bytes as u64 > most).then_some(bytes)
}
