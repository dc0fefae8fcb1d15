// What the page knows: who is here, which rooms there are, what is shown. Signals, so that a component draws again when what it
// read changes, and nothing else does.
import { computed, signal } from "@preact/signals";
import { Log } from "../timeline/log.ts";
import type { Entry, Me, Member, MyRoom, Role, RoomRecord, Ways } from "./types.ts";
import { route } from "./route.ts";

/** `starting` until the server has said who is here; `closed`: there is nothing to come back for without doing something. */
export type Phase = "starting" | "away" | "signedOut" | "ready" | "banned" | "revoked" | "broken";
export const phase = signal<Phase>("starting");
export const me = signal<Me | null>(null);
export const ways = signal<Ways>({ password: true, oidc: null });
/** The session ended by itself: said above the form to sign in. */
export const sessionEnded = signal(false);

export type Connection =
  | { state: "connecting" | "live" | "catchingUp" | "slow" | "draining" | "offline" }
  | { state: "away"; until: number };
export const connection = signal<Connection>({ state: "connecting" });

/** A message of one's own that the log does not have yet. */
export interface Pending {
  key: string;
  room: string;
  id: string;
  text: string;
  replyTo: number | null;
  data: unknown;
  at: string;
  state: "uploading" | "waiting" | "failed";
  error: unknown;
}

/** Timelines kept of rooms that are not shown. */
const LOGS = 8;

export class Room {
  readonly record;
  readonly role = signal<Role | null>(null);
  readonly unread = signal(0);
  readonly mentions = signal(0);
  /** The highest entry known to exist. */
  readonly head = signal(0);
  readonly readSeq = signal(0);
  readonly online = signal<number | null>(null);
  readonly present = signal<ReadonlySet<string>>(new Set());
  readonly typing = signal<ReadonlyMap<string, number>>(new Map());
  /** How far others have read, as far as they were seen to. */
  readonly reads = signal<ReadonlyMap<string, number>>(new Map());
  readonly members = signal<Member[] | null>(null);
  readonly pins = signal<ReadonlySet<number> | null>(null);
  /** Told of live entries, after the log. */
  readonly listeners = new Set<(entries: readonly Entry[]) => void>();
  /** Unsent text, kept while the reader is elsewhere. */
  draft = "";
  log: Log;

  constructor(record: RoomRecord) {
    this.record = signal(record);
    this.log = new Log(record.id, me.peek()?.user.id ?? "");
    this.role.value = record.role ?? null;
    this.head.value = record.head;
    this.online.value = record.online ?? null;
  }

  get id(): string {
    return this.record.peek().id;
  }

  takeMine(mine: MyRoom): void {
    this.record.value = mine;
    this.role.value = mine.role;
    this.unread.value = mine.unread;
    this.mentions.value = mine.mentions;
    this.head.value = Math.max(this.head.peek(), mine.head);
    this.readSeq.value = Math.max(this.readSeq.peek(), mine.read_seq);
  }

  forgetLog(): void {
    this.log = new Log(this.id, me.peek()?.user.id ?? "");
  }
}

/** Rooms of one's own, and those that one looks at. */
export const rooms = signal<ReadonlyMap<string, Room>>(new Map());
export const roomsKnown = signal(false);
export const pending = signal<readonly Pending[]>([]);

export const current = computed(() => (route.value.room ? (rooms.value.get(route.value.room) ?? null) : null));

const recent: string[] = [];

/** Notes that a room is shown; the timelines of those shown long ago are let go. */
export function shown(room: Room): void {
  const at = recent.indexOf(room.id);
  if (at >= 0) recent.splice(at, 1);
  recent.push(room.id);
  while (recent.length > LOGS) rooms.peek().get(recent.shift() ?? "")?.forgetLog();
}

export function addRoom(record: RoomRecord): Room {
  const known = rooms.peek().get(record.id);
  if (known) {
    known.record.value = { ...known.record.peek(), ...record };
    if (record.role !== undefined) known.role.value = record.role;
    return known;
  }
  const room = new Room(record);
  rooms.value = new Map(rooms.peek()).set(record.id, room);
  return room;
}

export function dropRoom(id: string): void {
  const next = new Map(rooms.peek());
  next.delete(id);
  rooms.value = next;
}

/** The other person of a direct room, once its members are known. */
export function partner(room: Room): string | null {
  const mine = me.value?.user.id;
  const people = room.members.value;
  if (!people) return null;
  return people.find((one) => one.user !== mine)?.user ?? mine ?? null;
}

export function titleOf(room: Room): string {
  const record = room.record.value;
  if (record.kind === "direct") return partner(room) ?? "…";
  return record.name || record.id;
}

const byTitle = (a: Room, b: Room): number => titleOf(a).localeCompare(titleOf(b));

export const ownRooms = computed(() => [...rooms.value.values()].filter((room) => room.role.value !== null).sort(byTitle));
export const totalUnread = computed(() => ownRooms.value.reduce((sum, room) => sum + room.unread.value, 0));
export const totalMentions = computed(() =>
  ownRooms.value.reduce((sum, room) => {
    const direct = room.record.value.kind === "direct";
    return sum + (direct ? room.unread.value : room.mentions.value);
  }, 0),
);

export const canModerate = (room: Room): boolean => {
  const role = room.role.value;
  return role === "owner" || role === "moderator" || (room.record.value.kind === "direct" && role !== null);
};
export const canWrite = (room: Room): boolean => {
  const role = room.role.value;
  return role !== null && role !== "muted" && !room.record.value.archived;
};

// ---- what lies over the page ---------------------------------------------------------------------------------------------

export type Panel =
  | { kind: "people" }
  | { kind: "pins" }
  | { kind: "search" }
  | { kind: "reports" }
  | { kind: "thread"; root: number };
export const panel = signal<Panel | null>(null);

export type Dialog =
  | { kind: "create" }
  | { kind: "browse" }
  | { kind: "direct" }
  | { kind: "account" }
  | { kind: "keys" }
  | { kind: "room" }
  | { kind: "invite" }
  | { kind: "jump" }
  | { kind: "revisions"; seq: number }
  | { kind: "report"; seq: number };
export const dialog = signal<Dialog | null>(null);

/** On narrow screens either the rooms or a room is shown. */
export const listOpen = signal(false);

export interface Toast {
  id: number;
  text: string;
  detail: string;
  bad: boolean;
}
export const toasts = signal<readonly Toast[]>([]);
const TOASTS = 3;
let toastId = 0;

export function toast(text: string, detail = "", bad = false): void {
  const id = ++toastId;
  toasts.value = [...toasts.peek(), { id, text, detail, bad }].slice(-TOASTS);
  setTimeout(() => dropToast(id), bad ? 9_000 : 4_000);
}

export function dropToast(id: number): void {
  toasts.value = toasts.peek().filter((one) => one.id !== id);
}

/** Said to screen readers. */
export const announced = signal("");
