// Keys that work everywhere.
import { go, roomPath, route } from "../core/route.ts";
import { current, dialog, listOpen, ownRooms, panel, type Room } from "../core/state.ts";
import { finder } from "./Sidebar.tsx";

const isTyping = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && target.matches("input, textarea, select, [contenteditable]");

function step(by: number, which: (room: Room) => boolean): void {
  const all = ownRooms.peek();
  const list = all.filter((room) => which(room) || room.id === route.peek().room);
  if (list.length === 0) return;
  const at = list.findIndex((room) => room.id === route.peek().room);
  const next = list[at < 0 ? 0 : (at + by + list.length) % list.length];
  if (next) go(roomPath(next.id));
}

export function shortcuts(event: KeyboardEvent): void {
  if (event.isComposing || event.defaultPrevented) return;
  const command = event.ctrlKey || event.metaKey;
  const key = event.key.toLowerCase();
  if (command && !event.altKey && key === "k") {
    listOpen.value = true;
    requestAnimationFrame(() => finder.current?.focus());
  } else if (command && event.shiftKey && key === "f" && current.peek()) {
    panel.value = { kind: "search" };
  } else if (event.altKey && !command && (key === "arrowdown" || key === "arrowup")) {
    step(key === "arrowdown" ? 1 : -1, (room) => !event.shiftKey || room.unread.peek() > 0);
  } else if (key === "?" && !isTyping(event.target) && !command) {
    dialog.value = { kind: "keys" };
  } else if (key === "escape" && !document.querySelector("dialog[open], :popover-open")) {
    if (panel.peek()) panel.value = null;
    else if (document.activeElement === finder.current && route.peek().room) listOpen.value = false;
    document.querySelector<HTMLElement>(".composer textarea")?.focus();
  } else return;
  event.preventDefault();
}
