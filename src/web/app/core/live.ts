// The live side of the page: one client of the SDK, its connection told truthfully, its rooms' entries into their logs.
import { batch } from "@preact/signals";
import { Client, type ConnectionState, type Entry, newId, type OutboxItem, type RoundtableError } from "../../sdk/src/index.ts";
import { t } from "../i18n/index.ts";
import { keyOf } from "../timeline/log.ts";
import * as api from "./api.ts";
import { explain } from "./explain.ts";
import { notify } from "./notify.ts";
import { gone, loadMembers, loadRooms } from "./rooms.ts";
import { signedOut } from "./session.ts";
import { announced, connection, type Connection, current, me, type Pending, pending, phase, type Room, rooms, titleOf, toast } from "./state.ts";
import type { Entry as Shown } from "./types.ts";

export { newId };

let live: Client | null = null;
const followed = new Map<string, () => void>();

/** States that last less than this are not worth a word. */
const PATIENCE_MS = 500;
/** A message that was sent shows as its own until its entry comes, or so long. */
const SENT_SHOWN_MS = 10_000;
/** Rooms that somebody else put one in are found by looking. */
const LOOK_MS = 60_000;
const TYPING_MS = 7_000;
/** Who comes in meanwhile is asked for together. */
const MET_MS = 500;
/** Readers of a room remembered. */
const READS = 200;

export const client = (): Client | null => live;

export async function startLive(): Promise<void> {
  const user = me.peek()?.user.id;
  if (!user) return;
  stopLive();
  const mine = new Client({ user, keepFailed: true, client: "roundtable-web/0.1" });
  live = mine;
  mine.on("state", (state) => live === mine && follow(state));
  mine.outbox.on("change", ({ item, change }) => {
    if (change === "sent") {
      sent.set(keyOf(user, item.id), item);
      setTimeout(() => {
        sent.delete(keyOf(user, item.id));
        showPending();
      }, SENT_SHOWN_MS);
    }
    showPending();
  });
  mine.outbox.on("volatile", () => toast(t().signIn.noStorage, "", true));
  for (const id of rooms.peek().keys()) followRoom(id);
  showPending();
  mine.connect().catch(() => {
    // The state says why, and what there is to do.
  });
}

export function stopLive(): void {
  for (const stop of followed.values()) stop();
  followed.clear();
  sent.clear();
  void live?.close();
  live = null;
}

// ---- the connection -----------------------------------------------------------------------------------------------------

let later: ReturnType<typeof setTimeout> | undefined;

function follow(state: ConnectionState): void {
  clearTimeout(later);
  const set = (next: Connection): void => {
    connection.value = next;
  };
  const soon = (next: Connection): void => {
    later = setTimeout(() => set(next), PATIENCE_MS);
  };
  switch (state.phase) {
    case "idle":
    case "connecting":
      // Between two attempts "can't be reached" stays true until one succeeds.
      if (connection.peek().state !== "away" && connection.peek().state !== "offline") soon({ state: "connecting" });
      break;
    case "online":
      if (state.draining) set({ state: "draining" });
      else if (state.slow) set({ state: "slow" });
      else if (state.catchingUp > 0 && connection.peek().state !== "live") set({ state: "catchingUp" });
      else if (state.catchingUp > 0) soon({ state: "catchingUp" });
      else set({ state: "live" });
      break;
    case "waiting":
      if (state.attempt <= 1) soon({ state: "connecting" });
      else set({ state: "away", until: Date.now() + (state.retryInMs ?? 0) });
      break;
    case "offline":
      set({ state: "offline" });
      break;
    case "unauthorized":
      signedOut(true);
      break;
    case "closed":
      if (state.error) void ended(state.error);
      break;
  }
}

/** The server does not want this client back: why decides what the reader is told. */
async function ended(error: RoundtableError): Promise<void> {
  if (error.code === "closed") return;
  if (error.code === "protocol") phase.value = "broken";
  else if (error.code === "different_user") location.reload();
  else {
    const why = await api.get("me").then(
      () => null,
      (reason: unknown) => reason,
    );
    const banned = error.code === "forbidden" || (why instanceof api.ApiError && why.code === "forbidden");
    stopLive();
    phase.value = banned ? "banned" : "revoked";
  }
}

export function tryNow(): void {
  live?.connect().catch(() => {});
}

// ---- what is not sent yet -----------------------------------------------------------------------------------------------

const sent = new Map<string, OutboxItem>();

function showPending(): void {
  const user = me.peek()?.user.id ?? "";
  const of = (item: OutboxItem): Pending => ({
    key: keyOf(user, item.id),
    room: item.room,
    id: item.id,
    text: item.text,
    replyTo: item.reply_to ?? null,
    data: item.data,
    at: new Date(item.at).toISOString(),
    state: item.state === "failed" ? "failed" : "waiting",
    error: item.error,
  });
  pending.value = [...sent.values(), ...(live?.outbox.items() ?? [])].map(of);
}

export function say(room: string, id: string, text: string, replyTo: number | null, data: { attachments: string[] } | undefined): void {
  const sending = live?.room(room).send(text, { id, ...(replyTo !== null && { reply_to: replyTo }), ...(data && { data }) });
  sending?.catch((error: RoundtableError) => {
    // Anything else is kept, and shown where the message stands.
    if (error.code !== "outbox_full") return;
    const { what, next, detail } = explain(error);
    toast(`${what} ${next}`, detail, true);
  });
}

// ---- rooms --------------------------------------------------------------------------------------------------------------

export function followRoom(id: string): void {
  const room = rooms.peek().get(id);
  if (!live || !room || followed.has(id)) return;
  const bound = live.limits?.subscriptions;
  if (bound !== undefined && followed.size >= bound) return;
  const there = live.room(id);
  const stops = [
    there.on("entries", (entries) => take(room, entries)),
    there.on("subscribed", ({ role, online }) => {
      room.role.value = role;
      room.online.value = online;
    }),
    there.on("reset", () => {
      room.log.gap();
      void loadRooms().catch(() => {});
    }),
    there.on("presence", ({ online, joined, left }) => {
      room.online.value = online;
      const present = new Set(room.present.peek());
      for (const one of joined ?? []) present.add(one);
      for (const one of left ?? []) present.delete(one);
      room.present.value = present;
      for (const one of joined ?? []) met(room, one);
    }),
    there.on("typing", ({ users }) => {
      const until = Date.now() + TYPING_MS;
      room.typing.value = new Map(users.map((one) => [one, until]));
    }),
    there.on("read", ({ user, seq }) => read(room, user, seq)),
    there.on("unsubscribed", ({ code }) => {
      if (room === current.peek()) toast(t().room.removed, code === "deleted" ? t().rooms.gone : "", true);
      gone(id);
    }),
  ];
  followed.set(id, () => {
    for (const stop of stops) stop();
  });
  there.subscribe({ after: room.head.peek() }).catch(() => {
    // `unsubscribed` tells of a refusal; everything else is repeated.
  });
}

export function unfollowRoom(id: string): void {
  followed.get(id)?.();
  followed.delete(id);
  void live?.room(id).unsubscribe();
}

function take(room: Room, events: readonly Entry[]): void {
  const entries = events as readonly Shown[];
  const user = me.peek()?.user.id;
  batch(() => {
    room.log.apply(entries);
    for (const listener of room.listeners) listener(entries);
    let people = false;
    for (const entry of entries) {
      room.head.value = Math.max(room.head.peek(), entry.seq);
      if (entry.kind === "room") {
        const { name, topic, slow_mode_s, archived, ttl_s, edit_history } = entry;
        const change = { name, topic, slow_mode_s, archived, ttl_s, edit_history };
        const given = Object.fromEntries(Object.entries(change).filter(([, value]) => value !== undefined));
        room.record.value = { ...room.record.peek(), ...given };
      }
      if (entry.kind !== "message") continue;
      if (entry.user === user) {
        if (sent.delete(keyOf(entry.user, entry.id))) people = true;
        continue;
      }
      if (room.typing.peek().has(entry.user)) {
        room.typing.value = new Map([...room.typing.peek()].filter(([one]) => one !== entry.user));
      }
      if (entry.seq <= room.readSeq.peek() || room.role.peek() === null) continue;
      room.unread.value++;
      const direct = room.record.peek().kind === "direct";
      const calls = entry.mentions_room || entry.mentions?.includes(user ?? "");
      if (calls) room.mentions.value++;
      if (calls || direct) notify(room, titleOf(room), entry.user, entry.text ?? "", direct, entry.seq);
      if (room === current.peek()) announced.value = t().room.newFrom(entry.user, (entry.text ?? "").slice(0, 200));
      met(room, entry.user);
    }
    if (people || sent.size > 0) showPending();
  });
}

const looking = new Map<string, ReturnType<typeof setTimeout>>();

/** Somebody is there: who is not known as a member may have become one. */
function met(room: Room, user: string): void {
  if (looking.has(room.id) || (room.members.peek()?.some((one) => one.user === user) ?? true)) return;
  const look = (): void => {
    looking.delete(room.id);
    void loadMembers(room);
  };
  looking.set(room.id, setTimeout(look, MET_MS));
}

let recount: ReturnType<typeof setTimeout> | undefined;

function read(room: Room, user: string, seq: number): void {
  if (user !== me.peek()?.user.id) {
    const reads = new Map(room.reads.peek());
    reads.delete(user);
    reads.set(user, seq);
    if (reads.size > READS) reads.delete(reads.keys().next().value ?? "");
    room.reads.value = reads;
    return;
  }
  // Read elsewhere, by oneself.
  if (seq <= room.readSeq.peek()) return;
  room.readSeq.value = seq;
  if (seq >= room.head.peek()) {
    room.unread.value = 0;
    room.mentions.value = 0;
  } else {
    recount ??= setTimeout(() => {
      recount = undefined;
      void loadRooms().catch(() => {});
    }, 1_000);
  }
}

setInterval(() => {
  if (phase.peek() === "ready" && document.visibilityState === "visible") void loadRooms().catch(() => {});
}, LOOK_MS);
