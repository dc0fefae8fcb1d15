// Rooms: which there are, coming in, going out, opening one.
import * as api from "./api.ts";
import { followRoom, unfollowRoom } from "./live.ts";
import { go } from "./route.ts";
import { addRoom, dropRoom, type Room, rooms, roomsKnown, shown } from "./state.ts";
import type { Member, MyRoom, Pinned, RoomRecord } from "./types.ts";

/** Rooms taken from the list at most. */
const LISTED = 2_000;

export async function loadRooms(): Promise<void> {
  const mine = await api.all<MyRoom>("me/rooms", {}, LISTED);
  const next = new Map(rooms.peek());
  const ids = new Set(mine.map((one) => one.id));
  for (const [id, room] of next) if (room.role.peek() !== null && !ids.has(id)) next.delete(id);
  rooms.value = next;
  for (const one of mine) {
    addRoom(one).takeMine(one);
    followRoom(one.id);
  }
  roomsKnown.value = true;
  for (const room of rooms.peek().values()) {
    if (room.record.peek().kind === "direct" && !room.members.peek()) void loadMembers(room);
  }
}

export async function loadMembers(room: Room): Promise<void> {
  try {
    room.members.value = await api.all<Member>(`rooms/${room.id}/members`);
  } catch {
    // Who is in the room stays unknown until somebody looks again.
  }
}

export async function loadPins(room: Room): Promise<void> {
  try {
    const pins = await api.all<Pinned>(`rooms/${room.id}/pins`);
    room.pins.value = new Set(pins.map((pin) => pin.message.seq));
  } catch {
    room.pins.value = new Set();
  }
}

/** Makes a room known, whether one is in it or only looks at it. */
export async function openRoom(id: string): Promise<Room> {
  let room = rooms.peek().get(id);
  if (!room) {
    room = addRoom(await api.get<RoomRecord>(`rooms/${id}`));
    followRoom(id);
  }
  shown(room);
  if (!room.members.peek()) void loadMembers(room);
  if (!room.pins.peek()) void loadPins(room);
  return room;
}

async function entered(record: RoomRecord): Promise<void> {
  addRoom(record);
  followRoom(record.id);
  await loadRooms();
  go(`/r/${record.id}`);
}

export async function createRoom(body: { id: string; kind: "public" | "private"; name?: string; topic?: string }): Promise<void> {
  await entered(await api.post<RoomRecord>("rooms", body));
}

export async function direct(user: string): Promise<void> {
  await entered(await api.post<RoomRecord>("direct", { user }));
}

export async function join(id: string): Promise<void> {
  const { role } = await api.post<{ role: Room["role"]["value"] }>(`rooms/${id}/join`);
  const room = rooms.peek().get(id);
  if (room) {
    room.role.value = role ?? "member";
    void loadMembers(room);
  }
  await loadRooms();
  go(`/r/${id}`);
}

export async function leave(id: string): Promise<void> {
  await api.post(`rooms/${id}/leave`);
  gone(id);
}

export function gone(id: string): void {
  unfollowRoom(id);
  dropRoom(id);
  if (location.pathname.split("/")[2] === id) go("/");
}
