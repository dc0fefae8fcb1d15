//! The owner's decisions against a log in memory that numbers entries the way the stores do.

use super::*;
use crate::entry::RoomPatch;
use crate::ids::RoomId;
use crate::refusal::Code;

fn user(name: &str) -> UserId {
    UserId::parse(name).expect("a valid id")
}

fn caller(name: &str) -> Caller {
    Caller { user: user(name), admin: false, from: None }
}

fn send(id: &str) -> Command {
    let id = MessageId::parse(id).expect("a valid id");
    Command::Send { id, text: "hi".into(), reply_to: None, data: None, over_rate_ms: None, refused: None, trace: None }
}

/// An owner with a log behind it; tokens are numbers in the order of asking.
struct Table {
    owner: Owner<u64>,
    log: Vec<(UserId, Option<MessageId>)>,
    /// What messages that were logged call.
    mentions: HashMap<MessageId, Mentions>,
    asked: u64,
    answers: Vec<(u64, Result<Reply, Refusal>)>,
    shown: Vec<Seq>,
    evicted: Vec<(Option<UserId>, Eviction)>,
    pending: Option<Vec<AppendItem>>,
    now: Millis,
}

impl Table {
    fn new(kind: RoomKind, patch: RoomPatch) -> Self {
        let id = RoomId::parse("r").expect("a valid id");
        let mut room = Room::new(id, kind);
        room.apply(&patch, 0);
        let members = [("olga", Role::Owner), ("mori", Role::Moderator), ("emma", Role::Member), ("max", Role::Member)];
        let members = members.into_iter().map(|(name, role)| (user(name), role)).collect();
        let owner = Owner::new(room, 1, People { members, bans: HashSet::new() }, &[]);
        let (log, answers, shown, evicted) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mentions = HashMap::new();
        Self { owner, log, mentions, asked: 0, answers, shown, evicted, pending: None, now: 1_000_000 }
    }

    fn ask(&mut self, name: &str, command: Command) -> u64 {
        self.asked += 1;
        self.owner.offer(Request { caller: caller(name), command, token: self.asked });
        let effects = self.owner.step(self.now);
        self.take(effects);
        self.asked
    }

    fn take(&mut self, effects: Vec<Effect<u64>>) {
        for effect in effects {
            match effect {
                Effect::Append(items) => assert!(self.pending.replace(items).is_none(), "two appends in flight"),
                Effect::Answer(token, result) => self.answers.push((token, result)),
                Effect::Show(entries) => self.shown.extend(entries.iter().map(|entry| entry.seq)),
                Effect::Evict(user, why) => self.evicted.push((user, why)),
                Effect::Gone => {}
            }
        }
    }

    /// The store does the append under way, and the next ones, until nothing is left.
    fn commit(&mut self) {
        while let Some(items) = self.pending.take() {
            let outcomes = items.into_iter().map(|item| self.apply(item)).collect();
            let effects = self.owner.committed(outcomes);
            self.take(effects);
            let effects = self.owner.step(self.now);
            self.take(effects);
        }
    }

    fn apply(&mut self, item: AppendItem) -> Outcome {
        let id = match &item.change {
            Change::Message { id, mentions, only_if_known, .. } => {
                let known = self.log.iter().position(|(user, known)| *user == item.user && known.as_ref() == Some(id));
                match (known, only_if_known) {
                    (Some(index), _) => return Outcome::Duplicate { seq: index as Seq + 1, at: 0 },
                    (None, true) => return Outcome::Absent,
                    (None, false) => {
                        self.mentions.insert(id.clone(), mentions.clone());
                        Some(id.clone())
                    }
                }
            }
            Change::SetMember { role, .. } => return Outcome::Done { role: Some(*role) },
            Change::RemoveMember { .. } | Change::Ban { .. } | Change::Unban { .. } | Change::DeleteRoom => {
                return Outcome::Done { role: None };
            }
            _ => None,
        };
        self.log.push((item.user, id));
        Outcome::Appended { seq: self.log.len() as Seq, at: item.at }
    }

    fn answer(&self, token: u64) -> &Result<Reply, Refusal> {
        &self.answers.iter().find(|(answered, _)| *answered == token).expect("answered").1
    }

    fn code(&self, token: u64) -> Option<Code> {
        self.answer(token).as_ref().err().map(|refusal| refusal.code)
    }

    fn sent(&self, token: u64) -> (Seq, bool) {
        match self.answer(token) {
            Ok(Reply::Sent { seq, duplicate, .. }) => (*seq, *duplicate),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn nothing_is_answered_or_shown_before_it_is_committed() {
    let mut table = Table::new(RoomKind::Public, RoomPatch::default());
    let first = table.ask("emma", send("a"));
    let (second, third) = (table.ask("max", send("b")), table.ask("emma", send("c")));
    assert!(table.answers.is_empty() && table.shown.is_empty());
    assert_eq!(table.pending.as_ref().map(Vec::len), Some(1), "what comes meanwhile waits for the next append");
    table.commit();
    assert_eq!([table.sent(first), table.sent(second), table.sent(third)], [(1, false), (2, false), (3, false)]);
    assert_eq!(table.shown, [1, 2, 3]);
}

#[test]
fn a_refused_request_keeps_its_turn_and_holds_nothing_back() {
    let mut table = Table::new(RoomKind::Public, RoomPatch::default());
    table.ask("emma", send("a"));
    let (stranger, next) = (table.ask("eve", send("b")), table.ask("emma", send("c")));
    table.commit();
    assert_eq!(table.code(stranger), Some(Code::Forbidden));
    assert_eq!(table.sent(next), (2, false));
    assert_eq!(table.answers.iter().map(|(token, _)| *token).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn a_repeat_is_answered_whatever_else_refuses_it() {
    let mut table = Table::new(RoomKind::Public, RoomPatch { slow_mode_s: Some(10), ..Default::default() });
    let first = table.ask("emma", send("a"));
    table.commit();
    let (again, new) = (table.ask("emma", send("a")), table.ask("emma", send("b")));
    table.commit();
    assert_eq!((table.sent(first), table.sent(again)), ((1, false), (1, true)));
    assert_eq!(table.code(new), Some(Code::RateLimited));
    assert!(table.answer(new).as_ref().unwrap_err().retry_after_ms.is_some_and(|ms| ms <= 10_000));

    table.ask("olga", Command::Patch(RoomPatch { archived: Some(true), slow_mode_s: Some(0), ..Default::default() }));
    table.commit();
    // Forgotten by the owner, known to the store.
    table.owner.known.clear();
    let (again, new) = (table.ask("emma", send("a")), table.ask("emma", send("b")));
    table.commit();
    assert_eq!(table.sent(again), (1, true));
    assert_eq!(table.code(new), Some(Code::Conflict));

    table.ask("olga", Command::Patch(RoomPatch { archived: Some(false), ..Default::default() }));
    table.commit();
    table.owner.known.clear();
    let mut over_rate = |id: &str| {
        let mut command = send(id);
        if let Command::Send { over_rate_ms, .. } = &mut command {
            *over_rate_ms = Some(700);
        }
        table.ask("emma", command)
    };
    let (again, new) = (over_rate("a"), over_rate("z"));
    table.commit();
    assert_eq!(table.sent(again), (1, true));
    assert_eq!(table.answer(new).as_ref().unwrap_err().retry_after_ms, Some(700));
}

#[test]
fn slow_mode_counts_within_one_batch_and_over_a_change_of_owner() {
    let mut table = Table::new(RoomKind::Public, RoomPatch { slow_mode_s: Some(10), ..Default::default() });
    table.ask("max", send("first"));
    let (one, two) = (table.ask("emma", send("a")), table.ask("emma", send("b")));
    table.commit();
    assert_eq!(table.sent(one), (2, false));
    assert_eq!(table.code(two), Some(Code::RateLimited));
    table.now += 10_000;
    let later = table.ask("emma", send("b"));
    table.commit();
    assert_eq!(table.sent(later), (3, false));

    let id = MessageId::parse("b").expect("valid");
    let message =
        Message { id, text: None, reply_to: None, data: None, edited_at: None, mentions: Mentions::default() };
    let recent = [Entry { seq: 3, user: user("emma"), at: table.now, body: Body::Message(message) }];
    let (room, people) = (table.owner.room.clone(), table.owner.people.clone());
    table.owner = Owner::new(room, 1, people, &recent);
    let (again, soon) = (table.ask("emma", send("b")), table.ask("emma", send("c")));
    table.commit();
    assert_eq!((table.sent(again), table.code(soon)), ((3, true), Some(Code::RateLimited)));
}

#[test]
fn a_membership_takes_effect_before_what_follows_it() {
    let mut table = Table::new(RoomKind::Public, RoomPatch::default());
    table.ask("emma", send("a"));
    let (join, sends) = (table.ask("eve", Command::Join), table.ask("eve", send("b")));
    table.commit();
    assert_eq!(table.answer(join), &Ok(Reply::Member { role: Some(Role::Member) }));
    assert_eq!(table.sent(sends), (2, false));

    table.ask("emma", send("c"));
    let (ban, banned) = (table.ask("olga", Command::Ban { user: user("eve") }), table.ask("eve", send("d")));
    table.commit();
    assert!(table.answer(ban).is_ok());
    assert_eq!(table.code(banned), Some(Code::Forbidden));
    assert_eq!(table.evicted, [(Some(user("eve")), Eviction::Banned)]);
    let rejoin = table.ask("eve", Command::Join);
    table.commit();
    assert_eq!(table.code(rejoin), Some(Code::Forbidden));
}

#[test]
fn a_read_behind_a_send_sees_it() {
    let mut table = Table::new(RoomKind::Private, RoomPatch::default());
    table.ask("emma", send("a"));
    table.ask("emma", send("b"));
    let (read, stranger) =
        (table.ask("emma", Command::Admit { subscribe: true }), table.ask("eve", Command::Admit { subscribe: true }));
    table.commit();
    assert_eq!(table.answer(read), &Ok(Reply::Admitted { role: Some(Role::Member), head: 2, oldest: 1, online: 0 }));
    assert_eq!(table.code(stranger), Some(Code::NotFound));
}

#[test]
fn what_is_in_doubt_is_answered_so_and_what_is_queued_stays() {
    let mut table = Table::new(RoomKind::Public, RoomPatch::default());
    let (doubtful, queued) = (table.ask("emma", send("a")), table.ask("emma", send("b")));
    table.pending = None;
    let effects = table.owner.in_doubt(&Refusal::unavailable("later"));
    table.take(effects);
    assert_eq!(table.code(doubtful), Some(Code::Unavailable));
    let (requests, ready) =
        std::mem::replace(&mut table.owner, Table::new(RoomKind::Public, RoomPatch::default()).owner).into_requests();
    assert!(ready.is_empty());
    assert_eq!(requests.iter().map(|request| request.token).collect::<Vec<_>>(), [queued]);
}

#[test]
fn a_fenced_append_gives_all_its_requests_back_in_order() {
    let mut table = Table::new(RoomKind::Public, RoomPatch::default());
    let all: Vec<u64> = ["a", "b", "c"].into_iter().map(|id| table.ask("emma", send(id))).collect();
    table.pending = None;
    let (requests, _) = table.owner.into_requests();
    assert_eq!(requests.iter().map(|request| request.token).collect::<Vec<_>>(), all);
}

#[test]
fn a_change_that_changes_nothing_logs_nothing() {
    let mut table = Table::new(RoomKind::Public, RoomPatch { topic: Some("tea".into()), ..Default::default() });
    let same = table.ask("olga", Command::Patch(RoomPatch { topic: Some("tea".into()), ..Default::default() }));
    assert_eq!(table.answer(same), &Ok(Reply::Changed { seq: None }));
    let differs = table.ask("mori", Command::Patch(RoomPatch { topic: Some("茶".into()), ..Default::default() }));
    table.commit();
    assert_eq!(table.answer(differs), &Ok(Reply::Changed { seq: Some(1) }));
    assert_eq!(table.owner.room().topic.as_deref(), Some("茶"));
    let refused = table.ask("emma", Command::Patch(RoomPatch { topic: Some("x".into()), ..Default::default() }));
    assert_eq!(table.code(refused), Some(Code::Forbidden));
}

/// Whom the message with that id calls.
fn called(table: &Table, id: &str) -> (Vec<String>, bool) {
    let mentions = table.mentions.get(id).expect("a message that was logged");
    (mentions.users().iter().map(ToString::to_string).collect(), mentions.room())
}

fn says(id: &str, text: &str) -> Command {
    let id = MessageId::parse(id).expect("a valid id");
    Command::Send { id, text: text.into(), reply_to: None, data: None, over_rate_ms: None, refused: None, trace: None }
}

#[test]
fn members_are_called_and_the_room_by_those_who_lead_it() {
    let mut table = Table::new(RoomKind::Public, RoomPatch::default());
    for (who, id) in [("olga", "owner"), ("mori", "moderator"), ("emma", "member")] {
        table.ask(who, says(id, "@room @max @eve"));
    }
    table.commit();
    let max = || vec!["max".to_owned()];
    assert_eq!(called(&table, "owner"), (max(), true));
    assert_eq!(called(&table, "moderator"), (max(), true));
    assert_eq!(called(&table, "member"), (max(), false));
}

#[test]
fn who_is_just_joining_is_called_as_a_member() {
    let mut table = Table::new(RoomKind::Public, RoomPatch::default());
    // While this one is under way the others wait, and would all go into the next append.
    table.ask("emma", send("first"));
    table.ask("eve", Command::Join);
    table.ask("emma", says("hello", "@eve!"));
    table.commit();
    assert_eq!(called(&table, "hello"), (vec!["eve".to_owned()], false));
}
