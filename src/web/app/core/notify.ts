// Notifications of the system: for what calls the reader while the page is in the background, where they asked for it.
import { effect, signal } from "@preact/signals";
import { t } from "../i18n/index.ts";
import { go, roomPath } from "./route.ts";
import { current, type Room, titleOf, totalMentions } from "./state.ts";
import { keep, kept } from "./storage.ts";

export const notifying = signal(kept("notify") === "yes" && "Notification" in globalThis && Notification.permission === "granted");

/** Asks the browser, which asks the reader. Says whether it is on now. */
export async function setNotifying(on: boolean): Promise<boolean> {
  const may = on && "Notification" in globalThis && (await Notification.requestPermission()) === "granted";
  notifying.value = may;
  keep("notify", may ? "yes" : null);
  return may;
}

export function notify(room: Room, title: string, from: string, text: string, direct: boolean, seq: number): void {
  if (!notifying.peek() || (document.visibilityState === "visible" && document.hasFocus())) return;
  const n = t().notify;
  try {
    const shown = new Notification(direct ? n.direct(from) : n.mention(from, title), {
      body: text.slice(0, 200),
      icon: "/icon.svg",
      // One for each room: a busy one does not bury the screen.
      tag: room.id,
    });
    shown.onclick = () => {
      window.focus();
      go(roomPath(room.id, seq));
      shown.close();
    };
  } catch {
    // Some platforms allow them to service workers alone.
    notifying.value = false;
  }
}

effect(() => {
  const count = totalMentions.value;
  const room = current.value;
  document.title = `${count > 0 ? `(${count}) ` : ""}${room ? `${titleOf(room)} · ` : ""}Roundtable`;
});
