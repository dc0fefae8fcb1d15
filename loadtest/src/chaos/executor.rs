//! Does to a cluster what a schedule says, a step at a time: [`Executor::step`] is called often, looks how far each
//! fault that goes on has come, does what is due and never waits long.
//!
//! It knows nothing of the load. Invariants: a fault begins when its time has come *and* it fits to what still goes on,
//! so one that takes longer to heal than was planned delays the next ones, in their order; a fault is healed when the
//! nodes that it touched say that they are ready. Each wait has an end: what isn't ready [`READY_WITHIN`] after its
//! fault was lifted is a finding, and so are a node that ends by itself and a drain that fails; after a finding no
//! further fault begins.

use std::time::Duration;

use crate::chaos::fault::{Action, Cut, Link, Ways};
use crate::chaos::schedule::Fault;
use crate::fail::{Fail, Result};
use crate::stack::Stack;
use crate::stack::child::Server;
use crate::stack::node::Node;
use crate::stack::proxy::{Flow, Proxy, Way};

/// From the end of a fault until everything it touched must be ready again; with slow debug builds on busy machines in
/// mind, what the load sees is judged apart.
pub const READY_WITHIN: f64 = 60.0;
/// Beyond `server.shutdown_s`: the process' own end, on a busy machine.
const EXIT_GRACE_S: f64 = 3.0;

/// What [`Executor::step`] did or found.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The fault with this place in the schedule began.
    Began(usize),
    /// It is over and everything is ready.
    Healed(usize),
    /// Processes were started or ended: others may have to be measured.
    Moved,
    /// The cluster did what it must not do; in words.
    Found(String),
}

/// One SIGTERM and what came of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drain {
    pub node: usize,
    pub seconds: f64,
    /// `None`: ended by a signal, or had to be killed.
    pub code: Option<i32>,
}

pub struct Executor {
    faults: Vec<Fault>,
    next: usize,
    active: Vec<Active>,
    /// Nodes that belong to the cluster.
    members: Vec<usize>,
    /// Those whose process is to run.
    up: Vec<bool>,
    drain_within_s: f64,
    drains: Vec<Drain>,
    crashes: u64,
    ending: bool,
}

struct Active {
    /// Its place in the schedule.
    place: usize,
    action: Action,
    length_s: f64,
    stage: Stage,
    since_s: f64,
    /// Nodes of a rolling restart whose turn is still to come.
    turns: Vec<usize>,
}

/// What is being waited for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    /// The length of the fault.
    Lasting,
    /// The end of a node's process that drains.
    Draining(usize),
    /// A node that was started.
    Starting(usize),
    /// The end of PostgreSQL.
    Stopping,
    /// What the fault touched to be ready again.
    Recovering,
}

enum Progress {
    Waits,
    To(Stage),
    Over,
}

impl Executor {
    /// For a stack whose first `nodes` nodes run. `shutdown_s`: the nodes' setting.
    pub fn new(faults: Vec<Fault>, nodes: usize, all: usize, shutdown_s: f64) -> Self {
        Self {
            faults,
            next: 0,
            active: Vec::new(),
            members: (0..nodes).collect(),
            up: (0..all).map(|node| node < nodes).collect(),
            drain_within_s: shutdown_s + EXIT_GRACE_S,
            drains: Vec::new(),
            crashes: 0,
            ending: false,
        }
    }

    /// Goes on with everything. `now_s` counts like the schedule's times.
    ///
    /// # Errors
    /// Where something can't be started, or PostgreSQL or Redis ended by itself: the run can't go on.
    pub fn step(&mut self, stack: &mut Stack, now_s: f64) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        self.look_for_the_dead(stack, &mut events)?;
        let (mut still, all) = (Vec::new(), self.actions());
        for mut fault in std::mem::take(&mut self.active) {
            if self.ending {
                fault.length_s = 0.0;
                fault.turns.clear();
            }
            match self.advance(&mut fault, &all, stack, now_s, &mut events)? {
                Progress::Over => events.push(Event::Healed(fault.place)),
                Progress::Waits => still.push(fault),
                Progress::To(stage) => {
                    (fault.stage, fault.since_s) = (stage, now_s);
                    still.push(fault);
                }
            }
        }
        self.active = still;
        while let Some(fault) = self.faults.get(self.next).filter(|fault| !self.ending && fault.at_s <= now_s).copied()
        {
            if !fault.action.fits(&self.actions(), &self.members) {
                break;
            }
            let begun = self.begin(self.next, fault, stack, now_s)?;
            self.active.push(begun);
            events.extend([Event::Began(self.next), Event::Moved]);
            self.next += 1;
        }
        Ok(events)
    }

    /// No further fault begins, and those that go on are healed at once. Goes on with [`Self::step`] until
    /// [`Self::quiet`].
    pub fn finish(&mut self) {
        self.ending = true;
    }

    /// What goes on.
    fn actions(&self) -> Vec<Action> {
        self.active.iter().map(|fault| fault.action).collect()
    }

    /// Whether no fault goes on.
    pub fn quiet(&self) -> bool {
        self.active.is_empty()
    }

    pub fn fault(&self, place: usize) -> &Fault {
        &self.faults[place]
    }

    pub fn drains(&self) -> &[Drain] {
        &self.drains
    }

    /// Nodes that ended by themselves.
    pub fn crashes(&self) -> u64 {
        self.crashes
    }

    /// What is not ready, by name: what the nodes stand on, and the members.
    pub fn not_ready(&self, stack: &Stack) -> Vec<String> {
        let redis = stack.redis.as_ref().filter(|redis| !redis.ready()).map(|_| "Redis".to_owned());
        let postgres = stack.postgres.as_ref().filter(|postgres| !postgres.ready()).map(|_| "PostgreSQL".to_owned());
        let nodes = self.members.iter().map(|&node| &stack.nodes[node]);
        let nodes = nodes.filter(|node| !node.ready()).map(|node| node.name.clone());
        redis.into_iter().chain(postgres).chain(nodes).collect()
    }

    fn find(&mut self, what: String, events: &mut Vec<Event>) {
        events.push(Event::Found(what));
        self.finish();
    }

    /// Nodes that ended by themselves are a finding, and started again once so that the rest can be looked at.
    fn look_for_the_dead(&mut self, stack: &mut Stack, events: &mut Vec<Event>) -> Result<()> {
        let most = stack.nodes.len() as u64;
        for place in 0..stack.nodes.len() {
            let node = &mut stack.nodes[place];
            let Some(status) = node.ended().filter(|_| self.up[place]) else { continue };
            let what = format!("{} ended by itself with {status}\n{}", node.name, node.last_lines());
            self.crashes += 1;
            if self.crashes > most {
                return Err(Fail::Broken(what));
            }
            node.start()?;
            self.find(what, events);
            events.push(Event::Moved);
        }
        if stack.redis.as_mut().is_some_and(|redis| redis.died()) {
            return Err(Fail::Setup("Redis ended by itself".into()));
        }
        if stack.postgres.as_mut().is_some_and(|postgres| postgres.died()) {
            return Err(Fail::Setup("PostgreSQL ended by itself".into()));
        }
        Ok(())
    }

    fn begin(&mut self, place: usize, fault: Fault, stack: &mut Stack, now_s: f64) -> Result<Active> {
        let mut turns = Vec::new();
        let stage = match fault.action {
            Action::Kill { node } => {
                self.up[node] = false;
                stack.nodes[node].kill();
                Stage::Lasting
            }
            Action::Term { node } => self.drain(node, stack),
            Action::Freeze { node } => {
                stack.nodes[node].freeze();
                Stage::Lasting
            }
            Action::Cut { node, from, how } => {
                links(&stack.nodes[node], from).for_each(|proxy| cut(proxy, how));
                Stage::Lasting
            }
            Action::Slow { node, link, by_ms } => {
                let flow = Flow::Delay(Duration::from_millis(by_ms));
                for proxy in links(&stack.nodes[node], link) {
                    proxy.set(Way::Up, flow);
                    proxy.set(Way::Down, flow);
                }
                Stage::Lasting
            }
            Action::Restart => {
                turns = self.members.iter().rev().copied().collect();
                turns.pop().map_or(Stage::Recovering, |node| self.drain(node, stack))
            }
            Action::RedisRestart => {
                stack.redis_mut()?.stop();
                Stage::Lasting
            }
            Action::RedisFlushall => {
                let pause = Duration::from_secs_f64(fault.length_s);
                let flushed = stack.redis_mut()?.flush(pause);
                flushed.map_err(|error| Fail::Setup(format!("Redis does not take FLUSHALL: {error}")))?;
                Stage::Lasting
            }
            Action::PostgresRestart { by } => {
                stack.postgres_mut()?.stop(by);
                Stage::Stopping
            }
            Action::AddNode { node } => {
                self.members.push(node);
                self.start(node, stack)?
            }
            Action::RemoveNode { node } => {
                self.members.retain(|&member| member != node);
                self.drain(node, stack)
            }
        };
        Ok(Active { place, action: fault.action, length_s: fault.length_s, stage, since_s: now_s, turns })
    }

    fn start(&mut self, node: usize, stack: &mut Stack) -> Result<Stage> {
        stack.nodes[node].start()?;
        self.up[node] = true;
        Ok(Stage::Starting(node))
    }

    fn drain(&mut self, node: usize, stack: &mut Stack) -> Stage {
        self.up[node] = false;
        stack.nodes[node].terminate();
        Stage::Draining(node)
    }

    fn advance(
        &mut self,
        fault: &mut Active,
        all: &[Action],
        stack: &mut Stack,
        now_s: f64,
        events: &mut Vec<Event>,
    ) -> Result<Progress> {
        let waited_s = now_s - fault.since_s;
        Ok(match fault.stage {
            Stage::Lasting if waited_s < fault.length_s => Progress::Waits,
            Stage::Lasting => {
                events.push(Event::Moved);
                Progress::To(self.lift(fault.action, stack)?)
            }
            Stage::Draining(node) => {
                let ended = stack.nodes[node].ended();
                if ended.is_none() && waited_s <= self.drain_within_s {
                    return Ok(Progress::Waits);
                }
                self.drained(node, ended.map(|status| status.code()), waited_s, stack, events);
                events.push(Event::Moved);
                match fault.action {
                    Action::RemoveNode { .. } => Progress::Over,
                    Action::Term { .. } => Progress::To(Stage::Lasting),
                    _ => Progress::To(self.start(node, stack)?),
                }
            }
            Stage::Starting(node) if stack.nodes[node].ready() => match fault.turns.pop() {
                Some(next) => Progress::To(self.drain(next, stack)),
                None => Progress::Over,
            },
            Stage::Stopping if stack.postgres_mut()?.stopped() => Progress::To(Stage::Lasting),
            Stage::Recovering if self.recovered(fault.action, all, stack) => Progress::Over,
            Stage::Starting(_) | Stage::Stopping | Stage::Recovering if waited_s <= READY_WITHIN => Progress::Waits,
            Stage::Starting(_) | Stage::Stopping | Stage::Recovering => {
                let who = self.not_ready(stack).join(", ");
                self.find(format!("{}: {READY_WITHIN} s later not ready: {who}", fault.action), events);
                Progress::Over
            }
        })
    }

    /// Ends what the fault did; what is to be waited for then.
    fn lift(&mut self, action: Action, stack: &mut Stack) -> Result<Stage> {
        match action {
            Action::Kill { node } | Action::Term { node } => return self.start(node, stack),
            Action::Freeze { node } => stack.nodes[node].thaw(),
            Action::Cut { node, from: link, .. } | Action::Slow { node, link, .. } => {
                links(&stack.nodes[node], link).for_each(Proxy::heal);
            }
            Action::RedisRestart => stack.redis_mut()?.start_again()?,
            Action::PostgresRestart { .. } => stack.postgres_mut()?.start_again()?,
            // Redis ends its pause by itself; the others have no length.
            Action::RedisFlushall | Action::Restart | Action::AddNode { .. } | Action::RemoveNode { .. } => {}
        }
        Ok(Stage::Recovering)
    }

    /// Whether everything that it touched is ready: its node, or the servers and every member that no fault of `all` that
    /// go on holds.
    fn recovered(&self, action: Action, all: &[Action], stack: &Stack) -> bool {
        if let Some(node) = action.node() {
            return stack.nodes[node].ready();
        }
        let held = |node: usize| all.iter().any(|other| other.node() == Some(node));
        stack.redis.as_ref().is_none_or(Server::ready)
            && stack.postgres.as_ref().is_none_or(Server::ready)
            && self.members.iter().all(|&node| held(node) || stack.nodes[node].ready())
    }

    /// `status`: `None` where it still runs; inside, `None` where a signal ended it.
    fn drained(
        &mut self,
        place: usize,
        status: Option<Option<i32>>,
        seconds: f64,
        stack: &mut Stack,
        events: &mut Vec<Event>,
    ) {
        let node = &mut stack.nodes[place];
        let code = status.flatten();
        self.drains.push(Drain { node: place, seconds, code });
        let what = match status {
            Some(Some(0)) => return,
            Some(Some(code)) => format!("{} was told to end and exited with {code}", node.name),
            Some(None) => format!("{} was told to end and died of a signal", node.name),
            None => {
                node.kill();
                format!("{} was told to end and still ran {seconds:.1} s later", node.name)
            }
        };
        let what = format!("{what}\n{}", node.last_lines());
        self.find(what, events);
    }
}

fn links(node: &Node, link: Link) -> impl Iterator<Item = &Proxy> {
    let redis = node.redis.as_ref().filter(|_| link != Link::Postgres);
    redis.into_iter().chain(node.postgres.as_ref().filter(|_| link != Link::Redis))
}

fn cut(proxy: &Proxy, how: Cut) {
    let (flow, ways) = match how {
        Cut::Close => return proxy.close(),
        Cut::Lose(ways) => (Flow::Lose, ways),
        Cut::Hold(ways) => (Flow::Hold, ways),
    };
    if ways != Ways::In {
        proxy.set(Way::Up, flow);
    }
    if ways != Ways::Out {
        proxy.set(Way::Down, flow);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::stack::options::Programs;
    use crate::stack::postgres::Shutdown;
    use crate::stack::{Setup, Store};

    /// Two nodes and a spare one; the program that cargo builds beside its tests.
    fn stack() -> Stack {
        let beside = std::env::current_exe().expect("our path");
        let roundtable = beside.ancestors().nth(2).expect("the profile's directory").join("roundtable");
        assert!(roundtable.is_file(), "{} is not there: cargo test --workspace builds it", roundtable.display());
        let programs = Programs { roundtable, postgres_bin: None, redis: "redis-server".into() };
        let (settings, env) = (Vec::new(), Vec::new());
        let setup = Setup { programs, nodes: 2, store: Store::Postgres, settings, env, proxied: true, spare: 1 };
        Stack::start(&setup, &mut |_| {}).expect("a cluster")
    }

    /// Steps until everything is healed; what happened, in order, without `Moved`.
    fn all(executor: &mut Executor, stack: &mut Stack, count: usize) -> Vec<Event> {
        let begun = Instant::now();
        let mut seen = Vec::new();
        while seen.iter().filter(|event| matches!(event, Event::Healed(_))).count() < count {
            assert!(begun.elapsed() < Duration::from_secs(300), "not healed: {seen:?}");
            let stepped = Instant::now();
            seen.extend(executor.step(stack, begun.elapsed().as_secs_f64()).expect("it goes on"));
            // Each look at a server that does not answer takes up to a second; waiting for one takes many.
            assert!(stepped.elapsed() < Duration::from_secs(15), "a step must not wait");
            seen.retain(|event| *event != Event::Moved);
            std::thread::sleep(Duration::from_millis(20));
        }
        seen
    }

    #[test]
    fn every_kind_of_fault_is_done_and_healed_on_real_processes() {
        let mut stack = stack();
        let node = 0;
        let actions = [
            (Action::Kill { node }, 0.2),
            (Action::Freeze { node: 1 }, 0.5),
            (Action::Cut { node, from: Link::Redis, how: Cut::Lose(Ways::OutAndIn) }, 0.5),
            (Action::Cut { node, from: Link::Postgres, how: Cut::Hold(Ways::In) }, 0.5),
            (Action::Cut { node, from: Link::Both, how: Cut::Close }, 0.5),
            (Action::Slow { node, link: Link::Both, by_ms: 20 }, 0.5),
            (Action::RedisRestart, 0.2),
            (Action::RedisFlushall, 0.2),
            (Action::PostgresRestart { by: Shutdown::Fast }, 0.1),
            (Action::PostgresRestart { by: Shutdown::Immediate }, 0.0),
            (Action::PostgresRestart { by: Shutdown::Kill }, 0.0),
            (Action::AddNode { node: 2 }, 0.0),
            (Action::Term { node }, 0.0),
            (Action::RemoveNode { node }, 0.0),
            (Action::Restart, 0.0),
        ];
        let before = stack.parts();
        // All at once: each begins when it fits to those before it.
        let faults: Vec<Fault> =
            actions.iter().map(|&(action, length_s)| Fault { at_s: 0.0, length_s, action }).collect();
        let mut executor = Executor::new(faults, 2, 3, 25.0);
        let seen = all(&mut executor, &mut stack, actions.len());
        for place in 0..actions.len() {
            let at = |event: &Event| seen.iter().position(|seen| seen == event);
            assert!(at(&Event::Began(place)).expect("it began") < at(&Event::Healed(place)).expect("it was healed"));
        }
        assert_eq!(seen.len(), 2 * actions.len(), "nothing else was found: {seen:?}");
        assert!(executor.quiet() && executor.not_ready(&stack).is_empty());
        // One by SIGTERM, one removed, two by the rolling restart.
        assert_eq!(executor.drains().iter().map(|drain| drain.code).collect::<Vec<_>>(), [Some(0); 4]);
        let after = stack.parts();
        assert_eq!((after.nodes.len(), after.store.len(), after.bus.len()), (3, 1, 1));
        assert!(before.nodes.iter().chain(&before.store).chain(&before.bus).all(|pid| !after.nodes.contains(pid)));
    }

    #[test]
    fn a_node_that_ends_by_itself_is_found_and_started_again() {
        let mut stack = stack();
        let later = Fault { at_s: 0.5, length_s: 0.0, action: Action::Restart };
        let mut executor = Executor::new(vec![later], 2, 3, 25.0);
        crate::sys::signal(stack.parts().nodes[1], libc::SIGKILL);
        let begun = Instant::now();
        let mut found = Vec::new();
        while begun.elapsed() < Duration::from_secs(120) && (found.is_empty() || !executor.not_ready(&stack).is_empty())
        {
            let events = executor.step(&mut stack, begun.elapsed().as_secs_f64()).expect("it goes on");
            found.extend(events.into_iter().filter(|event| *event != Event::Moved));
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(
            matches!(&found[..], [Event::Found(what)] if what.starts_with("node 2 ended by itself with signal: 9"))
        );
        assert_eq!(executor.crashes(), 1);
        assert!(executor.not_ready(&stack).is_empty(), "it is there again");
    }
}
