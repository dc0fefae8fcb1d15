// The frames and objects of the protocol, as they are on the wire (docs/protocol.md).

export type Role = "owner" | "moderator" | "member" | "muted";
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

export interface User { id: string; name?: string | null }

interface Base { seq: number; user: string; at: string }
export interface ReactionCount { emoji: string; count: number; mine: boolean }
export interface Message extends Base {
  kind: "message";
  id: string;
  /** Absent where the message was deleted. */
  text?: string;
  reply_to?: number;
  data?: Json;
  edited_at?: string;
  deleted?: true;
  mentions?: string[];
  mentions_room?: true;
  /** Only in histories: how many messages its thread has besides it. */
  replies?: number;
  /** Only in histories. */
  reactions?: ReactionCount[];
}
export interface Edit extends Base { kind: "edit"; target: number; text?: string; mentions?: string[]; mentions_room?: true }
export interface Deletion extends Base { kind: "delete"; target: number }
export interface Reaction extends Base { kind: "reaction"; target: number; emoji: string; active: boolean }
export interface RoomChange extends Base {
  kind: "room";
  name?: string;
  topic?: string;
  slow_mode_s?: number;
  archived?: boolean;
  ttl_s?: number;
  edit_history?: boolean;
}
/** One entry of a room's log. */
export type Entry = Message | Edit | Deletion | Reaction | RoomChange;

export interface Limits {
  frame_bytes: number;
  text_chars: number;
  data_bytes: number;
  inflight: number;
  subscriptions: number;
  replay?: number;
  messages_per_minute?: number;
  messages_burst?: number;
}
export interface Welcome {
  type: "welcome";
  ref?: number;
  user: User;
  session: string;
  node: string;
  server: string;
  heartbeat_s: number;
  reconnect: { jitter_ms: number; backoff_max_ms: number };
  limits: Limits;
}
export interface Subscribed { room: string; head: number; verdict: "live" | "replay" | "reset"; role: Role | null; online: number }
export interface Sent { room: string; id: string; seq: number; at: string; duplicate: boolean }
export interface History { room: string; events: Entry[]; more: boolean }
export interface Presence { room: string; online: number; joined?: string[]; left?: string[] }
export interface Typing { room: string; users: string[] }
export interface Read { room: string; user: string; seq: number }
export interface Notice { code: string; message: string; reconnect_after_ms?: number }
export interface Refusal { ref?: number; code: string; message: string; retryable: boolean; retry_after_ms?: number }

export type ServerFrame =
  | Welcome
  | ({ type: "subscribed"; ref?: number } & Subscribed)
  | ({ type: "sent"; ref?: number } & Sent)
  | ({ type: "history"; ref?: number } & History)
  | { type: "ok"; ref?: number; role?: Role; seq?: number | null; expires_at?: string }
  | { type: "pong"; ref?: number; at: string }
  | { type: "events"; ref?: undefined; room: string; events: Entry[] }
  | ({ type: "presence"; ref?: undefined } & Presence)
  | ({ type: "typing"; ref?: undefined } & Typing)
  | ({ type: "read"; ref?: undefined } & Read)
  | { type: "unsubscribed"; ref?: undefined; room: string; code: string }
  | ({ type: "notice"; ref?: undefined } & Notice)
  | ({ type: "error" } & Refusal);

export type ClientFrame = { type: string; ref?: number; room?: string; [field: string]: unknown };
