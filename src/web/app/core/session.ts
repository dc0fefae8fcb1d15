// Who is here: coming in, going out, and what happens when the server ends it.
import * as api from "./api.ts";
import { startLive, stopLive } from "./live.ts";
import { go, route } from "./route.ts";
import { loadRooms, openRoom } from "./rooms.ts";
import { me, pending, phase, rooms, roomsKnown, sessionEnded, toast, ways } from "./state.ts";
import type { Me, RoomRecord, Ways } from "./types.ts";
import { explain } from "./explain.ts";

const RETRY_MS = 3_000;

/** Asks who is here, and begins. */
export async function enter(): Promise<void> {
  const found = await api.get<Me>("me");
  api.useCredentials(found);
  me.value = found;
  sessionEnded.value = false;
  await loadRooms();
  phase.value = "ready";
  await startLive();
  await acceptInvitation();
  if (route.peek().room) await openRoom(route.peek().room ?? "");
}

/** The first thing that the page does. Goes on trying while the server is away. */
export async function start(): Promise<void> {
  api.whenSignedOut(() => signedOut(phase.peek() === "ready"));
  for (;;) {
    try {
      await enter();
      return;
    } catch (error) {
      if (error instanceof api.ApiError && error.code === "unauthenticated") {
        signedOut(false);
        ways.value = await api.get<Ways>("auth").catch(() => ways.peek());
        return;
      }
      if (error instanceof api.ApiError && error.code === "forbidden") {
        phase.value = "banned";
        return;
      }
      phase.value = "away";
    }
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, RETRY_MS);
      addEventListener("online", () => (clearTimeout(timer), resolve(null)), { once: true });
    });
  }
}

async function acceptInvitation(): Promise<void> {
  const token = route.peek().invitation;
  if (!token) return;
  try {
    const room = await api.post<RoomRecord>(`invitations/${encodeURIComponent(token)}/accept`);
    await loadRooms();
    go(`/r/${room.id}`, true);
  } catch (error) {
    const { what, next, detail } = explain(error);
    toast(`${what} ${next}`, detail, true);
    go("/", true);
  }
}

/** Nobody is signed in any more; `ended`: somebody was. */
export function signedOut(ended: boolean): void {
  if (phase.peek() === "signedOut") return;
  stopLive();
  api.useCredentials(null);
  me.value = null;
  rooms.value = new Map();
  roomsKnown.value = false;
  pending.value = [];
  sessionEnded.value = ended;
  phase.value = "signedOut";
  void api.get<Ways>("auth").then(
    (found) => (ways.value = found),
    () => {},
  );
}

export async function signOut(): Promise<void> {
  await api.post("logout");
  signedOut(false);
}
