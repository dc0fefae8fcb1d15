//! Webhooks in the store: a hook starts at the heads, what is due is claimed once, a cursor moves only by being settled.

use std::time::Duration;

use roundtable::domain::audit::{Deed, What};
use roundtable::ids::Seq;
use roundtable::ports::{
    Changed, DEAD_MAX, Delivery, Erasing, HOOKS_MAX, Made, NewWebhook, RoomNo, Settled, Webhook, WebhookPatch,
};

use super::{AT, Backend, Change, Role, on_both_stores, room_id, says, user};

on_both_stores!(
    a_hook_is_made_once_listed_changed_and_deleted,
    a_hook_starts_at_the_head_and_is_due_when_there_is_news,
    a_claim_is_one_holders_until_it_ends,
    news_during_a_claim_is_not_lost,
    a_failed_batch_is_tried_again_as_it_was_and_a_busy_hook_is_left_alone,
    what_was_given_up_is_listed_and_tried_again,
    too_many_dead_letters_switch_the_hook_off,
    a_hook_for_all_rooms_has_a_cursor_in_each,
    the_sweep_finds_what_nobody_noted,
    a_deleted_room_takes_its_hooks_along,
    a_hook_ends_with_its_makers_right_to_it,
    a_hook_ends_with_its_maker,
    a_hook_with_much_to_do_leaves_others_their_turn,
);

const LONG: Duration = Duration::from_secs(60);

fn hook(id: &str, room: Option<&str>, url: &str) -> NewWebhook {
    let hook = Webhook {
        id: id.into(),
        room: room.map(room_id),
        url: url.into(),
        kinds: vec![],
        active: true,
        off_reason: None,
        made_by: user("alice"),
        made_at: AT,
        ready: false,
    };
    NewWebhook { hook, secret: format!("secret of {id}") }
}

impl Backend {
    async fn made(&self, new: &NewWebhook) -> Webhook {
        match self.store.create_webhook(new).await.expect("the store is there") {
            Made::New(hook) => hook,
            other => panic!("{other:?}"),
        }
    }

    async fn noted(&self, rooms: &[RoomNo]) -> bool {
        self.store.note_webhook_news(rooms).await.expect("the store is there")
    }

    async fn claimed(&self, claim_for: Duration) -> Vec<Delivery> {
        self.store.claim_deliveries(&[], 16, 8, claim_for).await.expect("the store is there")
    }

    /// The one thing that is due.
    async fn one(&self) -> Delivery {
        let mut claimed = self.claimed(LONG).await;
        assert_eq!(claimed.len(), 1, "one delivery is due");
        claimed.remove(0)
    }

    async fn settled(&self, delivery: &Delivery, settled: Settled) {
        self.store.settle_delivery(delivery, &settled).await.expect("the store is there");
    }

    async fn done(&self, delivery: &Delivery, to: Seq) {
        self.settled(delivery, Settled::Done { to }).await;
    }
}

async fn a_hook_is_made_once_listed_changed_and_deleted(backend: Backend) {
    let (store, lobby) = (&backend.store, room_id("lobby"));
    backend.room("lobby").await;
    let first = backend.made(&hook("wh_1", Some("lobby"), "https://a.example/")).await;
    assert_eq!((first.room.as_ref(), first.active, first.ready), (Some(&lobby), true, true));
    let again = store.create_webhook(&hook("wh_2", Some("lobby"), "https://a.example/")).await;
    assert_eq!(again, Ok(Made::Known(first.clone())), "a repeat");
    let other = backend.made(&hook("wh_3", Some("lobby"), "https://b.example/")).await;
    assert_eq!(store.create_webhook(&hook("wh_4", Some("nowhere"), "https://a/")).await, Ok(Made::NoSuchRoom));
    let everywhere = backend.made(&hook("wh_5", None, "https://a.example/")).await;
    assert_eq!(everywhere.room, None);

    assert_eq!(store.webhooks(Some(&lobby)).await, Ok(vec![first.clone(), other]));
    assert_eq!(store.webhooks(None).await, Ok(vec![everywhere]));
    assert_eq!(store.webhook(Some(&lobby), "wh_1").await, Ok(Some(first.clone())));
    assert_eq!(store.webhook(None, "wh_1").await, Ok(None), "it belongs to its room");

    let patch = WebhookPatch { kinds: Some(vec!["edit".into(), "message".into()]), ..WebhookPatch::default() };
    let changed = Webhook { kinds: vec!["edit".into(), "message".into()], ..first.clone() };
    assert_eq!(store.change_webhook(Some(&lobby), "wh_1", &patch).await, Ok(Changed::Done(changed.clone())));
    let patch = WebhookPatch { url: Some("https://b.example/".into()), ..WebhookPatch::default() };
    assert_eq!(store.change_webhook(Some(&lobby), "wh_1", &patch).await, Ok(Changed::Taken));
    let patch = WebhookPatch { active: Some(false), ..WebhookPatch::default() };
    let off = Webhook { active: false, ..changed };
    assert_eq!(store.change_webhook(Some(&lobby), "wh_1", &patch).await, Ok(Changed::Done(off)));
    assert_eq!(store.change_webhook(None, "wh_1", &patch).await, Ok(Changed::NoSuchHook));

    for n in 0..HOOKS_MAX {
        let made = store.create_webhook(&hook(&format!("wh_more{n}"), Some("lobby"), &format!("https://c/{n}"))).await;
        assert_eq!(made == Ok(Made::TooMany), n >= HOOKS_MAX - 2, "{n}");
    }
    assert_eq!(store.delete_webhook(None, "wh_1").await, Ok(false));
    assert_eq!(store.delete_webhook(Some(&lobby), "wh_1").await, Ok(true));
    assert_eq!(store.delete_webhook(Some(&lobby), "wh_1").await, Ok(false));
}

async fn a_hook_starts_at_the_head_and_is_due_when_there_is_news(backend: Backend) {
    let lobby = backend.room("lobby").await;
    lobby.append(vec![says("alice", "m1", "before")]).await;
    assert!(!backend.noted(&[lobby.no]).await, "there are no hooks");
    backend.made(&hook("wh_1", Some("lobby"), "https://a.example/")).await;
    assert!(backend.noted(&[]).await);
    assert!(backend.claimed(LONG).await.is_empty(), "nothing is due");
    lobby.append(vec![says("alice", "m2", "after"), says("alice", "m3", "after")]).await;
    assert!(backend.claimed(LONG).await.is_empty(), "nobody said so");
    assert!(backend.noted(&[lobby.no, RoomNo(999)]).await);

    let delivery = backend.one().await;
    assert_eq!((delivery.hook.as_str(), delivery.room.as_ref()), ("wh_1", Some(&room_id("lobby"))));
    assert_eq!((delivery.after, delivery.to, delivery.attempts, delivery.dead), (1, None, 0, None));
    assert_eq!((delivery.url.as_str(), &*delivery.secrets), ("https://a.example/", &["secret of wh_1".to_owned()][..]));
    // More was logged than was delivered: it is due at once.
    backend.done(&delivery, 2).await;
    let delivery = backend.one().await;
    assert_eq!(delivery.after, 2);
    backend.done(&delivery, 3).await;
    assert!(backend.claimed(LONG).await.is_empty());

    // A new secret signs together with the old one for a while.
    let patch = WebhookPatch { secret: Some(("new".into(), LONG)), ..WebhookPatch::default() };
    backend.store.change_webhook(Some(&room_id("lobby")), "wh_1", &patch).await.expect("the store is there");
    lobby.append(vec![says("alice", "m4", "x")]).await;
    backend.noted(&[lobby.no]).await;
    let delivery = backend.one().await;
    assert_eq!(delivery.secrets, ["new", "secret of wh_1"]);

    // Switched off it is left alone, switched on it goes on where it stopped.
    let active = |active| WebhookPatch { active: Some(active), ..WebhookPatch::default() };
    backend.store.change_webhook(Some(&room_id("lobby")), "wh_1", &active(false)).await.expect("the store is there");
    backend.done(&delivery, 4).await;
    lobby.append(vec![says("alice", "m5", "x")]).await;
    assert!(!backend.noted(&[lobby.no]).await, "none is active");
    assert!(backend.claimed(LONG).await.is_empty());
    backend.store.change_webhook(Some(&room_id("lobby")), "wh_1", &active(true)).await.expect("the store is there");
    assert_eq!(backend.one().await.after, 4);
}

async fn a_claim_is_one_holders_until_it_ends(backend: Backend) {
    let lobby = backend.room("lobby").await;
    backend.made(&hook("wh_1", Some("lobby"), "https://a.example/")).await;
    lobby.append(vec![says("alice", "m1", "x")]).await;
    backend.noted(&[lobby.no]).await;
    let short = backend.claimed(Duration::from_millis(60)).await.remove(0);
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    let next = loop {
        if let Some(next) = backend.claimed(LONG).await.pop() {
            break next;
        }
        assert!(std::time::Instant::now() < deadline, "a claim that is not settled ends");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(next.after, 0);
    // Who comes too late changes nothing.
    backend.done(&short, 1).await;
    backend.settled(&short, Settled::Dead { to: 1, reason: "late".into() }).await;
    assert_eq!(backend.store.dead_letters("wh_1", None, 10).await, Ok(vec![]));
    assert!(backend.claimed(LONG).await.is_empty(), "it is still claimed");
    backend.settled(&next, Settled::Left { wait: Duration::ZERO }).await;
    let again = backend.one().await;
    assert_eq!((again.after, again.attempts), (0, 0));
}

async fn news_during_a_claim_is_not_lost(backend: Backend) {
    let lobby = backend.room("lobby").await;
    backend.made(&hook("wh_1", Some("lobby"), "https://a.example/")).await;
    lobby.append(vec![says("alice", "m1", "x")]).await;
    backend.noted(&[lobby.no]).await;
    let delivery = backend.one().await;
    lobby.append(vec![says("alice", "m2", "x")]).await;
    backend.noted(&[lobby.no]).await;
    backend.noted(&[lobby.no]).await;
    assert!(backend.claimed(LONG).await.is_empty());
    backend.done(&delivery, 1).await;
    assert_eq!(backend.one().await.after, 1);
}

async fn a_failed_batch_is_tried_again_as_it_was_and_a_busy_hook_is_left_alone(backend: Backend) {
    let (lobby, other) = (backend.room("lobby").await, backend.room("other").await);
    backend.made(&hook("wh_1", None, "https://a.example/")).await;
    while backend.store.fill_webhooks(100).await.expect("the store is there") {}
    for room in [&lobby, &other] {
        room.append(vec![says("alice", "m1", "x"), says("alice", "m2", "x")]).await;
    }
    backend.noted(&[lobby.no]).await;
    let delivery = backend.one().await;
    let again = |pause| Settled::Again { to: 2, wait: Duration::ZERO, pause };
    backend.settled(&delivery, again(Duration::ZERO)).await;
    lobby.append(vec![says("alice", "m3", "x")]).await;
    backend.noted(&[lobby.no]).await;
    let second = backend.one().await;
    assert_eq!((second.after, second.to, second.attempts), (0, Some(2), 1), "the same stretch");
    // The receiver is away: its other rooms wait as well.
    backend.settled(&second, again(LONG)).await;
    backend.noted(&[other.no]).await;
    assert!(backend.claimed(LONG).await.is_empty());
    // A new address is tried at once.
    let patch = WebhookPatch { url: Some("https://b.example/".into()), ..WebhookPatch::default() };
    backend.store.change_webhook(None, "wh_1", &patch).await.expect("the store is there");
    let mut both = backend.claimed(LONG).await;
    both.sort_by_key(|delivery| delivery.room_no);
    assert_eq!(both.iter().map(|delivery| delivery.attempts).collect::<Vec<_>>(), [2, 0]);
    backend.done(&both[0], 2).await;
    let next = backend.one().await;
    assert_eq!((next.after, next.to, next.attempts), (2, None, 0), "what came meanwhile is the next batch");
    // A wait is kept.
    backend.settled(&next, Settled::Again { to: 3, wait: LONG, pause: Duration::ZERO }).await;
    backend.noted(&[lobby.no]).await;
    assert!(backend.claimed(LONG).await.is_empty(), "news does not shorten it");
    let busy = both[1].hook_no;
    backend.settled(&both[1], Settled::Left { wait: Duration::ZERO }).await;
    assert!(backend.store.claim_deliveries(&[busy], 16, 8, LONG).await.expect("the store is there").is_empty());
    assert_eq!(backend.one().await.room_no, other.no);
}

async fn what_was_given_up_is_listed_and_tried_again(backend: Backend) {
    let lobby = backend.room("lobby").await;
    backend.made(&hook("wh_1", Some("lobby"), "https://a.example/")).await;
    lobby.append((1..=4).map(|n| says("alice", &format!("m{n}"), "x")).collect()).await;
    backend.noted(&[lobby.no]).await;
    let first = backend.one().await;
    backend.settled(&first, Settled::Dead { to: 2, reason: "status 500".into() }).await;
    let second = backend.one().await;
    assert_eq!(second.after, 2, "the cursor went on");
    backend.settled(&second, Settled::Dead { to: 4, reason: "no connection".into() }).await;
    assert!(backend.claimed(LONG).await.is_empty());

    let letters = backend.store.dead_letters("wh_1", None, 10).await.expect("the store is there");
    assert_eq!(letters.iter().map(|dead| (dead.after, dead.to)).collect::<Vec<_>>(), [(0, 2), (2, 4)]);
    assert_eq!((letters[0].attempts, letters[0].reason.as_str(), letters[0].waiting), (1, "status 500", false));
    assert_eq!(backend.store.dead_letters("wh_1", Some(letters[0].no), 10).await, Ok(vec![letters[1].clone()]));
    assert_eq!(backend.store.dead_letters("wh_2", None, 10).await, Ok(vec![]));

    assert_eq!(backend.store.retry_dead_letter("wh_2", letters[0].no).await, Ok(false), "another hook's");
    assert_eq!(backend.store.retry_dead_letter("wh_1", letters[0].no).await, Ok(true));
    assert_eq!(backend.store.retry_dead_letter("wh_1", letters[0].no).await, Ok(true), "harmless");
    let retried = backend.one().await;
    assert_eq!((retried.after, retried.to, retried.dead), (0, Some(2), Some(letters[0].no)));
    backend.settled(&retried, Settled::Dead { to: 2, reason: "status 502".into() }).await;
    let letters = backend.store.dead_letters("wh_1", None, 10).await.expect("the store is there");
    assert_eq!((letters[0].attempts, letters[0].reason.as_str(), letters[0].waiting), (2, "status 502", false));
    assert!(backend.claimed(LONG).await.is_empty(), "once for each time it is asked for");
    backend.store.retry_dead_letter("wh_1", letters[0].no).await.expect("the store is there");
    let retried = backend.one().await;
    backend.done(&retried, 2).await;
    assert_eq!(backend.store.drop_dead_letter("wh_1", letters[1].no).await, Ok(true));
    assert_eq!(backend.store.drop_dead_letter("wh_1", letters[1].no).await, Ok(false));
    assert_eq!(backend.store.dead_letters("wh_1", None, 10).await, Ok(vec![]));

    lobby.append(vec![says("alice", "m5", "x")]).await;
    backend.noted(&[lobby.no]).await;
    let delivery = backend.one().await;
    backend.settled(&delivery, Settled::Gone).await;
    let gone = backend.store.webhook(Some(&room_id("lobby")), "wh_1").await.expect("the store is there").expect("it");
    assert!(!gone.active && gone.off_reason.is_some(), "{gone:?}");
    assert!(!backend.noted(&[lobby.no]).await);
}

async fn too_many_dead_letters_switch_the_hook_off(backend: Backend) {
    let lobby = backend.room("lobby").await;
    backend.made(&hook("wh_1", Some("lobby"), "https://a.example/")).await;
    let all_but_one = format!(
        "INSERT INTO webhook_dead (hook_no, room_no, after_seq, to_seq, at, attempts, reason)
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {})
         SELECT w.no, w.room_no, 0, 1, 0, 1, 'x' FROM n, webhooks w RETURNING reason",
        DEAD_MAX - 1
    );
    assert_eq!(backend.raw.texts(&all_but_one).await.len() as i64, DEAD_MAX - 1);
    lobby.append(vec![says("alice", "m1", "x"), says("alice", "m2", "x")]).await;
    backend.noted(&[lobby.no]).await;
    let delivery = backend.one().await;
    backend.settled(&delivery, Settled::Dead { to: 1, reason: "status 500".into() }).await;
    assert!(backend.claimed(LONG).await.is_empty());
    let off = backend.store.webhook(Some(&room_id("lobby")), "wh_1").await.expect("the store is there").expect("it");
    assert!(!off.active && off.off_reason.is_some(), "{off:?}");
}

async fn a_hook_for_all_rooms_has_a_cursor_in_each(backend: Backend) {
    let mut rooms = Vec::new();
    for n in 0..5 {
        let room = backend.room(&format!("old{n}")).await;
        room.append(vec![says("alice", "m1", "before")]).await;
        rooms.push(room);
    }
    let made = backend.made(&hook("wh_1", None, "https://a.example/")).await;
    assert!(!made.ready);
    // A room that has no cursor yet waits for it; one that is newer than the hook need not.
    let new = backend.room("new").await;
    for room in rooms.iter().chain([&new]) {
        room.append(vec![says("alice", "m2", "x")]).await;
    }
    let numbers: Vec<_> = rooms.iter().chain([&new]).map(|room| room.no).collect();
    backend.noted(&numbers).await;
    let delivery = backend.one().await;
    assert_eq!((delivery.room_no, delivery.after), (new.no, 0));
    backend.done(&delivery, 1).await;

    while backend.store.fill_webhooks(2).await.expect("the store is there") {}
    assert!(backend.store.webhook(None, "wh_1").await.expect("the store is there").expect("the hook").ready);
    for room in &rooms {
        room.append(vec![says("alice", "m3", "x")]).await;
    }
    backend.noted(&numbers).await;
    let mut claimed = backend.claimed(LONG).await;
    claimed.sort_by_key(|delivery| delivery.room_no);
    let found: Vec<_> = claimed.iter().map(|delivery| (delivery.room_no, delivery.after)).collect();
    assert_eq!(found, rooms.iter().map(|room| (room.no, 2)).collect::<Vec<_>>(), "from the head it found");
}

async fn the_sweep_finds_what_nobody_noted(backend: Backend) {
    let lobby = backend.room("lobby").await;
    backend.made(&hook("wh_1", None, "https://a.example/")).await;
    while backend.store.fill_webhooks(100).await.expect("the store is there") {}
    let (quiet, fresh) = (backend.room("quiet").await, backend.room("fresh").await);
    backend.made(&hook("wh_2", Some("quiet"), "https://a.example/")).await;
    lobby.append(vec![says("alice", "m1", "x")]).await;
    fresh.append(vec![says("alice", "m1", "x")]).await;
    while backend.store.fill_webhooks(100).await.expect("the store is there") {}
    let (mut behind, mut place) = (Vec::new(), (0, 0));
    let mut steps = 0;
    loop {
        let (found, next) = backend.store.sweep_webhooks(place, 1).await.expect("the store is there");
        behind.extend(found);
        steps += 1;
        match next {
            Some(next) => place = next,
            None => break,
        }
    }
    assert_eq!(behind, [lobby.no, fresh.no], "and not {:?}", quiet.no);
    assert_eq!(steps, 5, "a cursor a step, and the end");
    backend.noted(&behind).await;
    assert_eq!(backend.claimed(LONG).await.len(), 2);
    let (found, _) = backend.store.sweep_webhooks((0, 0), 100).await.expect("the store is there");
    assert_eq!(found, [], "they are due");
}

async fn a_deleted_room_takes_its_hooks_along(backend: Backend) {
    let lobby = backend.room("lobby").await;
    backend.made(&hook("wh_1", Some("lobby"), "https://a.example/")).await;
    backend.made(&hook("wh_2", None, "https://a.example/")).await;
    while backend.store.fill_webhooks(100).await.expect("the store is there") {}
    lobby.append(vec![says("alice", "m1", "x")]).await;
    backend.noted(&[lobby.no]).await;
    let claimed = backend.claimed(LONG).await;
    assert_eq!(claimed.len(), 2);
    for delivery in &claimed {
        backend.settled(delivery, Settled::Dead { to: 1, reason: "x".into() }).await;
    }
    lobby.does("alice", roundtable::ports::Change::DeleteRoom).await;
    backend.until_nothing_is_left("SELECT 'a' FROM webhook_cursors").await;
    backend.until_nothing_is_left("SELECT 'a' FROM webhook_dead").await;
    backend.until_nothing_is_left("SELECT id FROM webhooks WHERE id = 'wh_1'").await;
    assert_eq!(backend.store.webhooks(None).await.expect("the store is there").len(), 1);
}

async fn a_hook_ends_with_its_makers_right_to_it(backend: Backend) {
    let room = backend.room("one").await;
    for who in ["bob", "carol", "root"] {
        backend.account(who).await;
    }
    let role = |whom: &str, role| Change::SetMember { user: user(whom), role };
    room.does("alice", role("bob", Role::Owner)).await;
    let of = |id: &str, by: &str| {
        let mut new = hook(id, Some("one"), &format!("https://{id}.example/"));
        new.hook.made_by = user(by);
        new
    };
    for (id, by) in [("alices", "alice"), ("bobs", "bob"), ("roots", "root")] {
        backend.made(&of(id, by)).await;
    }
    let active = async || {
        let hooks = backend.store.webhooks(Some(&room_id("one"))).await.expect("the store is there");
        hooks.into_iter().filter(|hook| hook.active).map(|hook| hook.id).collect::<Vec<_>>()
    };
    // An administrator has the right without a role, so that coming and going takes nothing from them.
    room.does("root", role("root", Role::Member)).await;
    room.does("root", Change::RemoveMember { user: user("root") }).await;
    room.does("alice", role("carol", Role::Member)).await;
    room.does("alice", Change::Ban { user: user("carol") }).await;
    assert_eq!(active().await, ["alices", "bobs", "roots"]);
    room.does("alice", role("bob", Role::Moderator)).await;
    assert_eq!(active().await, ["alices", "roots"]);
    let off = backend.store.webhook(Some(&room_id("one")), "bobs").await.expect("the store is there").expect("a hook");
    assert!(off.off_reason.is_some_and(|why| why.contains("may not manage")));
    // Whoever may, may switch it on again.
    let on = WebhookPatch { active: Some(true), ..WebhookPatch::default() };
    let done = backend.store.change_webhook(Some(&room_id("one")), "bobs", &on).await;
    assert!(matches!(done, Ok(Changed::Done(hook)) if hook.active && hook.off_reason.is_none()));
}

async fn a_hook_ends_with_its_maker(backend: Backend) {
    let room = backend.room("one").await;
    backend.account("bob").await;
    room.does("alice", Change::SetMember { user: user("bob"), role: Role::Owner }).await;
    let mut bobs = hook("bobs", Some("one"), "https://bobs.example/");
    bobs.hook.made_by = user("bob");
    backend.made(&bobs).await;
    backend.made(&hook("alices", Some("one"), "https://alices.example/")).await;
    let wish =
        Deed { at: AT, by: user("bob"), from: None, what: What::PersonErased, whom: None, seq: None, detail: None };
    assert_eq!(backend.store.erase(&wish).await, Ok(true));
    while backend.store.erase_some(100).await.expect("the store is there") != Erasing::Round(user("bob")) {}
    let hooks = backend.store.webhooks(Some(&room_id("one"))).await.expect("the store is there");
    let off: Vec<_> = hooks.into_iter().filter(|hook| !hook.active).map(|hook| (hook.id, hook.off_reason)).collect();
    assert_eq!(off, [("bobs".to_owned(), Some("whoever made it is gone".to_owned()))]);
}

async fn a_hook_with_much_to_do_leaves_others_their_turn(backend: Backend) {
    backend.made(&hook("wh_all", None, "https://a.example/")).await;
    while backend.store.fill_webhooks(100).await.expect("the store is there") {}
    let mut numbers = Vec::new();
    for n in 0..12 {
        let room = backend.room(&format!("room{n}")).await;
        room.append(vec![says("alice", "m1", "x")]).await;
        numbers.push(room.no);
    }
    backend.noted(&numbers).await;
    let lobby = backend.room("lobby").await;
    backend.made(&hook("wh_one", Some("lobby"), "https://a.example/")).await;
    lobby.append(vec![says("alice", "m1", "x")]).await;
    backend.noted(&[lobby.no]).await;
    let mut hooks = Vec::new();
    for _ in 0..3 {
        let claimed = backend.store.claim_deliveries(&[], 1, 4, LONG).await.expect("the store is there");
        hooks.extend(claimed.into_iter().map(|delivery| delivery.hook));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(hooks.contains(&"wh_one".to_owned()), "{hooks:?}");
    assert_eq!(hooks.iter().filter(|hook| *hook == "wh_all").count(), 8, "{hooks:?}");
}
