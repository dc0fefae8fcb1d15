// roundtable-client: see README.md.

export { Api } from "./api.js";
export type {
  ApiOptions, Attachment, Found, Invitation, Me, MessagePage, MyRoom, Page, PageOptions, Pin, RoomInfo, RoomKind, RoomSettings, Thread,
} from "./api.js";
export { Client } from "./client.js";
export type { Bounds, ClientEvents, ClientOptions, ConnectionState, Patience, Phase, TokenReason, TokenSource } from "./client.js";
export { newId } from "./clock.js";
export { RoundtableError } from "./errors.js";
export type { ClientCode, ErrorCode, ServerCode } from "./errors.js";
export type {
  Deletion, Edit, Entry, History, Json, Limits, Message, Notice, Presence, Reaction, ReactionCount, Read, Role, RoomChange, Sent, Subscribed, Typing, User,
} from "./frames.js";
export type { Outbox, OutboxEvents, OutboxItem, Sending } from "./outbox.js";
export type { Room, RoomEvents, RoomStatus, SubscribeOptions } from "./room.js";
export { IndexedDbStorage, MemoryStorage } from "./storage.js";
export type { OutboxStorage, StoredMessage } from "./storage.js";
export type { Encoding, WebSocketClass, WebSocketLike } from "./websocket.js";
