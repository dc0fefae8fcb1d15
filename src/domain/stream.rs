//! The numbered stream of requests from a mirror to an owner: go-back-N over a bus that may lose and, after a break,
//! repeat. Both ends, pure.
//!
//! Invariants: the owner takes each number once and in order; an answer is kept until the mirror says it has it; the
//! mirror keeps a request until it is answered, and answers each exactly once, in order.

use std::collections::VecDeque;

/// What the owner makes of a numbered request.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken<A> {
    /// The next one: do it.
    New,
    /// Done before; here is the answer again.
    Again(A),
    /// Taken before and still under way: it will be answered.
    UnderWay,
    /// Something before it is missing: ask for everything from this number on.
    Gap(u64),
}

/// The owner's end.
#[derive(Debug)]
pub struct StreamIn<A> {
    pub stream: u64,
    next: u64,
    /// Answers from `first_kept` on; `None`: under way.
    answers: VecDeque<Option<A>>,
    first_kept: u64,
    /// A gap was reported and not yet filled: said once, not for every later arrival.
    gap_said: bool,
}

impl<A: Clone> StreamIn<A> {
    pub fn new(stream: u64) -> Self {
        Self { stream, next: 1, answers: VecDeque::new(), first_kept: 1, gap_said: false }
    }

    /// The number expected next.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The mirror has the answers below `have`.
    pub fn settle(&mut self, have: u64) {
        while self.first_kept < have.min(self.next) {
            self.answers.pop_front();
            self.first_kept += 1;
        }
    }

    /// Request `n` arrives. `None`: a gap that was already reported.
    pub fn take(&mut self, n: u64) -> Option<Taken<A>> {
        if n == self.next {
            self.next += 1;
            self.answers.push_back(None);
            self.gap_said = false;
            return Some(Taken::New);
        }
        if n > self.next {
            if std::mem::replace(&mut self.gap_said, true) {
                return None;
            }
            return Some(Taken::Gap(self.next));
        }
        let kept = n.checked_sub(self.first_kept).and_then(|index| self.answers.get(index as usize));
        match kept {
            Some(Some(answer)) => Some(Taken::Again(answer.clone())),
            Some(None) => Some(Taken::UnderWay),
            // The mirror said it has this answer: nobody waits for it.
            None => None,
        }
    }

    /// Request `n` has its answer.
    pub fn answered(&mut self, n: u64, answer: A) {
        if let Some(slot) = n.checked_sub(self.first_kept).and_then(|index| self.answers.get_mut(index as usize)) {
            *slot = Some(answer);
        }
    }

    /// The mirror asks again what it may have missed: every kept answer, with its number.
    pub fn kept(&mut self) -> Vec<(u64, A)> {
        self.gap_said = false;
        let first = self.first_kept;
        self.answers
            .iter()
            .enumerate()
            .filter_map(|(index, answer)| answer.clone().map(|answer| (first + index as u64, answer)))
            .collect()
    }
}

/// The mirror's end; `R` is a request with all it takes to send it again, `A` its answer. What was done is told in the
/// order of the requests: an answer that overtook a lost one waits for it. A refusal waits for nothing, since a request
/// that was refused must never be sent again without its sender.
#[derive(Debug)]
pub struct StreamOut<R, A> {
    pub stream: u64,
    next: u64,
    /// Never begins with anything but an open request.
    waiting: VecDeque<Slot<R, A>>,
    any_answered: bool,
}

#[derive(Debug)]
enum Slot<R, A> {
    Open(R),
    /// Answered, and waits for those before it.
    Kept(R, A),
    Over,
}

impl<R, A> StreamOut<R, A> {
    pub fn new(stream: u64) -> Self {
        Self { stream, next: 1, waiting: VecDeque::new(), any_answered: false }
    }

    /// Keeps the request and gives its number.
    pub fn push(&mut self, request: R) -> u64 {
        let n = self.next;
        self.next += 1;
        self.waiting.push_back(Slot::Open(request));
        n
    }

    /// All answers below this number have arrived.
    pub fn have(&self) -> u64 {
        self.next - self.waiting.len() as u64
    }

    /// The answer to `n` is here: gives what can be told now, each request once. `refused`: it is told at once.
    pub fn answered(&mut self, n: u64, answer: A, refused: bool) -> Vec<(R, A)> {
        let mut told = Vec::new();
        let slot = n.checked_sub(self.have()).and_then(|index| self.waiting.get_mut(index as usize));
        if let Some(slot @ Slot::Open(_)) = slot
            && let Slot::Open(request) = std::mem::replace(slot, Slot::Over)
        {
            self.any_answered = true;
            if refused {
                told.push((request, answer));
            } else {
                *slot = Slot::Kept(request, answer);
            }
        }
        let ready = self.waiting.iter().take_while(|slot| !matches!(slot, Slot::Open(_))).count();
        for slot in self.waiting.drain(..ready) {
            if let Slot::Kept(request, answer) = slot {
                told.push((request, answer));
            }
        }
        told
    }

    /// Whether the owner answered anything in this stream: if it then says it expects number 1, it forgot the stream.
    pub fn any_answered(&self) -> bool {
        self.any_answered
    }

    /// The unanswered requests from number `from` on, in order.
    pub fn from(&self, from: u64) -> impl Iterator<Item = (u64, &R)> {
        (self.have()..).zip(&self.waiting).filter_map(move |(n, slot)| match slot {
            Slot::Open(request) if n >= from => Some((n, request)),
            _ => None,
        })
    }

    /// Gives up on the oldest ones, as long as `late` holds, with the answers of those that waited behind them (`None`:
    /// given up); all of them count as answered.
    pub fn give_up(&mut self, late: impl Fn(&R) -> bool) -> Vec<(R, Option<A>)> {
        let over =
            self.waiting.iter().take_while(|slot| !matches!(slot, Slot::Open(request) if !late(request))).count();
        let over = self.waiting.drain(..over).filter_map(|slot| match slot {
            Slot::Open(request) => Some((request, None)),
            Slot::Kept(request, answer) => Some((request, Some(answer))),
            Slot::Over => None,
        });
        over.collect()
    }

    /// Everything not told yet, in order, to be sent in another stream.
    pub fn into_unanswered(self) -> impl Iterator<Item = R> {
        self.waiting.into_iter().filter_map(|slot| match slot {
            Slot::Open(request) | Slot::Kept(request, _) => Some(request),
            Slot::Over => None,
        })
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_gap_is_said_once_and_filled_in_order() {
        let mut owner: StreamIn<u64> = StreamIn::new(1);
        assert_eq!(owner.take(1), Some(Taken::New));
        assert_eq!(owner.take(3), Some(Taken::Gap(2)));
        assert_eq!(owner.take(4), None);
        assert_eq!(owner.take(2), Some(Taken::New));
        assert_eq!(owner.take(2), Some(Taken::UnderWay));
        owner.answered(2, 20);
        assert_eq!(owner.take(2), Some(Taken::Again(20)));
        owner.settle(3);
        assert_eq!(owner.take(2), None);
        assert_eq!(owner.take(3), Some(Taken::New));
    }

    proptest! {
        /// Whatever the bus loses or repeats, each request is done once and in order, and each is answered once, in order too.
        #[test]
        fn exactly_once_in_order(total in 1u64..40, dice in proptest::collection::vec(0u8..10, 400)) {
            let (mut mirror, mut owner) = (StreamOut::new(7), StreamIn::new(7));
            let (mut done, mut answered) = (Vec::new(), Vec::new());
            let mut dice = dice.into_iter().chain(std::iter::repeat(9));
            let mut to_owner: VecDeque<(u64, u64)> = VecDeque::new();
            let mut to_mirror: VecDeque<(u64, u64)> = VecDeque::new();
            for request in 1..=total {
                let n = mirror.push(request);
                to_owner.push_back((n, request));
            }
            for _ in 0..2_000 {
                // Frames are lost (0–2) or repeated (3), on both ways.
                if let Some((n, request)) = to_owner.pop_front() {
                    match dice.next().expect("endless") {
                        0..=2 => {}
                        luck => {
                            if luck == 3 { to_owner.push_back((n, request)); }
                            owner.settle(mirror.have());
                            match owner.take(n) {
                                Some(Taken::New) => { done.push(request); owner.answered(n, request); to_mirror.push_back((n, request)); }
                                Some(Taken::Again(answer)) => to_mirror.push_back((n, answer)),
                                Some(Taken::Gap(from)) => to_owner.extend(mirror.from(from).map(|(n, r)| (n, *r))),
                                Some(Taken::UnderWay) | None => {}
                            }
                        }
                    }
                } else if let Some((n, _)) = to_mirror.pop_front() {
                    if dice.next().expect("endless") > 2 { answered.extend(mirror.answered(n, n, false).into_iter().map(|(r, _)| r)); }
                } else if !mirror.is_empty() {
                    // A resync: the mirror asks again, the owner says where it is and repeats its answers.
                    to_mirror.extend(owner.kept());
                    to_owner.extend(mirror.from(owner.next()).map(|(n, r)| (n, *r)));
                }
            }
            let all: Vec<u64> = (1..=total).collect();
            prop_assert_eq!(&done, &all);
            prop_assert_eq!(&answered, &all);
        }
    }
}
