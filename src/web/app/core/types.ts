// What the HTTP API says, as far as this page uses it (docs/openapi.json has all of it).

export type Role = "owner" | "moderator" | "member" | "muted";
export type RoomKind = "public" | "private" | "direct";

export interface Page<T> {
  items: T[];
  next: string | null;
}

export interface User {
  id: string;
  name: string | null;
}

export interface Me {
  user: User;
  csrf_token: string;
  by: "login" | "token" | "jwt";
  scopes: string[];
}

export interface RoomRecord {
  id: string;
  kind: RoomKind;
  name: string | null;
  topic: string | null;
  head: number;
  archived: boolean;
  slow_mode_s: number;
  ttl_s: number;
  edit_history: boolean;
  role?: Role | null;
  online?: number | null;
}

export interface MyRoom extends RoomRecord {
  role: Role;
  read_seq: number;
  unread: number;
  mentions: number;
}

export interface ReactionCount {
  emoji: string;
  count: number;
  mine: boolean;
}

interface EntryBase {
  seq: number;
  user: string;
  at: string;
}

export interface MessageEntry extends EntryBase {
  kind: "message";
  id: string;
  text?: string;
  reply_to?: number;
  data?: unknown;
  edited_at?: string;
  deleted?: boolean;
  mentions?: string[];
  mentions_room?: boolean;
  reactions?: ReactionCount[];
  replies?: number;
}

export interface EditEntry extends EntryBase {
  kind: "edit";
  target: number;
  text?: string;
  mentions?: string[];
  mentions_room?: boolean;
}

export interface DeleteEntry extends EntryBase {
  kind: "delete";
  target: number;
}

export interface ReactionEntry extends EntryBase {
  kind: "reaction";
  target: number;
  emoji: string;
  active: boolean;
}

export interface RoomEntry extends EntryBase {
  kind: "room";
  name?: string;
  topic?: string;
  slow_mode_s?: number;
  archived?: boolean;
  ttl_s?: number;
  edit_history?: boolean;
}

export type Entry = MessageEntry | EditEntry | DeleteEntry | ReactionEntry | RoomEntry;

export interface History {
  room: string;
  items: Entry[];
  more: boolean;
  next: string | null;
  previous: string | null;
}

export interface Thread {
  room: string;
  root: number;
  items: MessageEntry[];
  next: string | null;
}

export interface Member {
  user: string;
  role: Role;
}

export interface Pinned {
  message: MessageEntry;
  pinned_by: string;
  pinned_at: string;
}

export interface Invitation {
  id: string;
  expires_at: string;
  made_at: string;
  made_by: string;
  uses_left: number | null;
}

export interface Report {
  report: number;
  room: string;
  seq: number;
  user: string | null;
  text: string | null;
  reason: string | null;
  reporter: string;
  at: string;
  state: "open" | "closed";
  closed: { action: "none" | "deleted" | "banned"; by: string; at: string; note: string | null } | null;
}

export interface AuditLine {
  no: number;
  act: string;
  at: string;
  by: string;
  user: string | null;
  seq: number | null;
  detail: string | null;
}

export interface Login {
  id: string;
  created_at: string;
  last_seen_at: string;
  expires_at: string;
  client: string | null;
  address: string | null;
  current: boolean;
}

export interface AccessToken {
  id: string;
  name: string | null;
  scopes: string[];
  room: string | null;
  last_seen_at: string;
  expires_at: string | null;
}

export interface Webhook {
  id: string;
  url: string;
  active: boolean;
  off_reason: string | null;
  made_by: string;
  made_at: string;
  secret: string | null;
}

export interface Found {
  room: string;
  seq: number;
  user: string;
  at: string;
  text: string;
  snippet: string;
  highlights: [number, number][];
}

export interface StoredFile {
  id: string;
  name: string;
  type: string;
  bytes: number;
  url: string;
  url_expires_at: string;
}

export interface Ways {
  password: boolean;
  oidc: { label: string; login: string } | null;
}

/** Attachments that a message names in its data. */
export function attachmentsOf(data: unknown): string[] {
  if (typeof data !== "object" || data === null || !("attachments" in data)) return [];
  const ids = data.attachments;
  return Array.isArray(ids) ? ids.filter((id): id is string => typeof id === "string").slice(0, 10) : [];
}
