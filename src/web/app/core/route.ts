// Addresses of this page: `/`, `/r/{room}`, `/r/{room}/{seq}` and `/join#{token}`. The server gives the page for these alone.
import { signal } from "@preact/signals";

export interface Route {
  room: string | null;
  seq: number | null;
  invitation: string | null;
}

const ROOM = /^\/r\/([a-z0-9][a-z0-9._-]{0,63})(?:\/([1-9][0-9]{0,15}))?$/;

function parse(location: Location): Route {
  const match = ROOM.exec(location.pathname);
  if (match) return { room: match[1] ?? null, seq: match[2] ? Number(match[2]) : null, invitation: null };
  const invitation = location.pathname === "/join" ? decodeURIComponent(location.hash.slice(1)) || null : null;
  return { room: null, seq: null, invitation };
}

/** A new object with every visit, so that the same link may be followed twice. */
export const route = signal<Route>(parse(location));

addEventListener("popstate", () => {
  route.value = parse(location);
});

export const roomPath = (room: string, seq?: number): string => `/r/${room}${seq ? `/${seq}` : ""}`;

export function go(path: string, replace = false): void {
  if (replace) history.replaceState(null, "", path);
  else if (path !== location.pathname) history.pushState(null, "", path);
  route.value = parse(location);
}

/** For `<a>`: follows it here, unless the reader asks for a tab of its own. */
export function follow(event: MouseEvent): void {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey) return;
  const link = event.currentTarget as HTMLAnchorElement;
  event.preventDefault();
  go(link.pathname);
}
