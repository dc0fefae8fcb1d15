// What the reader does in a room.
import * as api from "./api.ts";
import { client, say } from "./live.ts";
import { loadPins } from "./rooms.ts";
import type { Pending, Room } from "./state.ts";

/** Sends a message; it is shown as waiting until the log has it. */
export function send(room: Room, id: string, text: string, replyTo: number | null, files: readonly string[]): void {
  say(room.id, id, text, replyTo, files.length > 0 ? { attachments: [...files] } : undefined);
}

export const resend = (message: Pending): void => {
  client()?.outbox.retry(message.room, message.id).catch(() => {});
};

export const discard = (message: Pending): void => {
  client()?.outbox.discard(message.room, message.id);
};

/** Requests over the connection that the person waits for end after this: repeated later they would surprise. */
const PATIENCE_MS = 15_000;
const patience = (): AbortSignal => AbortSignal.timeout(PATIENCE_MS);

export const react = (room: Room, seq: number, emoji: string, active: boolean): Promise<unknown> =>
  client()?.room(room.id).react(seq, emoji, active, patience()) ?? Promise.resolve();

export const edit = (room: Room, seq: number, text: string): Promise<unknown> =>
  client()?.room(room.id).edit(seq, text, patience()) ?? Promise.resolve();

export const remove = async (room: Room, seq: number): Promise<void> => {
  await client()?.room(room.id).delete(seq, patience());
};

export async function setPinned(room: Room, seq: number, pinned: boolean): Promise<void> {
  if (pinned) await api.put(`rooms/${room.id}/pins/${seq}`);
  else await api.del(`rooms/${room.id}/pins/${seq}`);
  await loadPins(room);
}

/** Everything up to the head is read. */
export function markRead(room: Room): void {
  const seq = Math.max(room.head.peek(), room.log.last);
  if (room.role.peek() === null || seq <= room.readSeq.peek()) return;
  room.readSeq.value = seq;
  room.unread.value = 0;
  room.mentions.value = 0;
  client()?.room(room.id).read(seq);
}

export function typing(room: Room, active: boolean): void {
  client()?.room(room.id).typing(active);
}
