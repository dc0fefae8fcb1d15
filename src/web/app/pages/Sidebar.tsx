// The rooms: one's own with what is unread, and a field that finds them.
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { direct } from "../core/rooms.ts";
import { follow, go, roomPath, route } from "../core/route.ts";
import { type Room, dialog, listOpen, me, ownRooms, partner, roomsKnown, titleOf } from "../core/state.ts";
import { t } from "../i18n/index.ts";
import { Avatar } from "../parts/Avatar.tsx";
import { Icon } from "../parts/Icon.tsx";
import { attempt } from "../parts/Problem.tsx";

const USER = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

/** More are not counted out. */
const MOST_SHOWN = 999;

const folded = (text: string): string => text.normalize("NFKC").toLowerCase();

/** The field that Ctrl+K goes to. */
export const finder: { current: HTMLInputElement | null } = { current: null };

export function Sidebar() {
  const r = t().rooms;
  const query = useSignal("");
  const chosen = useSignal(0);
  const list = useRef<HTMLElement>(null);
  const wanted = folded(query.value.trim());
  const found = ownRooms.value.filter(
    (room) => !wanted || folded(titleOf(room)).includes(wanted) || folded(room.id).includes(wanted),
  );
  const channels = found.filter((room) => room.record.value.kind !== "direct");
  const directs = found.filter((room) => room.record.value.kind === "direct");
  const inOrder = [...channels, ...directs];
  const person = query.value.trim();
  const canWriteTo = wanted !== "" && USER.test(person) && person !== me.value?.user.id && !directs.some((one) => partner(one) === person);

  useEffect(() => {
    chosen.value = 0;
  }, [wanted]);

  const open = (room: Room): void => {
    query.value = "";
    listOpen.value = false;
    go(roomPath(room.id));
  };
  const writeTo = (): void => {
    void attempt(async () => {
      await direct(person);
      query.value = "";
      listOpen.value = false;
    });
  };

  const onKey = (event: KeyboardEvent): void => {
    if (event.isComposing) return;
    const last = inOrder.length - 1 + (canWriteTo ? 1 : 0);
    if (event.key === "ArrowDown") chosen.value = Math.min(last, chosen.value + 1);
    else if (event.key === "ArrowUp") chosen.value = Math.max(0, chosen.value - 1);
    else if (event.key === "Enter") {
      const room = inOrder[chosen.value];
      if (room) open(room);
      else if (canWriteTo) writeTo();
    } else if (event.key === "Escape" && query.value) query.value = "";
    else return;
    event.preventDefault();
  };

  const row = (room: Room) => (
    <RoomRow key={room.id} room={room} marked={wanted !== "" && inOrder[chosen.value] === room} onOpen={() => open(room)} />
  );
  return (
    <nav class="sidebar" aria-label={r.title} ref={list}>
      <header>
        <img src="/icon.svg" alt="" width="30" height="30" />
        <strong>{t().app}</strong>
        <button type="button" class="ghost icon-only" aria-label={r.create} title={r.create} onClick={() => (dialog.value = { kind: "create" })}>
          <Icon name="plus" />
        </button>
      </header>
      <div class="finder">
        <Icon name="search" size={17} />
        <input
          ref={(element) => {
            finder.current = element;
          }}
          type="search"
          role="searchbox"
          aria-label={r.search}
          placeholder={r.search}
          value={query.value}
          onInput={(event) => (query.value = event.currentTarget.value)}
          onKeyDown={onKey}
        />
        <kbd>Ctrl K</kbd>
      </div>
      <div class="lists">
        {roomsKnown.value && ownRooms.value.length === 0 && (
          <div class="hint-box">
            <p>
              <strong>{r.empty}</strong>
            </p>
            <p>{r.emptyHint}</p>
          </div>
        )}
        <section>
          <h2>
            {r.yours}
            <button type="button" class="ghost tiny" onClick={() => (dialog.value = { kind: "browse" })}>
              {r.browse}
            </button>
          </h2>
          <ul>{channels.map(row)}</ul>
        </section>
        <section>
          <h2>
            {r.direct}
            <button
              type="button"
              class="ghost tiny icon-only"
              aria-label={r.newDirect}
              title={r.newDirect}
              onClick={() => (dialog.value = { kind: "direct" })}
            >
              <Icon name="plus" size={16} />
            </button>
          </h2>
          <ul>{directs.map(row)}</ul>
        </section>
        {canWriteTo && (
          <button type="button" class={chosen.value === inOrder.length ? "person-match marked" : "person-match"} onClick={writeTo}>
            <Avatar name={person} size="s" /> {r.openAs(person)}
          </button>
        )}
        {wanted !== "" && inOrder.length === 0 && !canWriteTo && <p class="quiet">{r.noMatch}</p>}
      </div>
      <footer>
        <button type="button" class="account" onClick={() => (dialog.value = { kind: "account" })}>
          <Avatar name={me.value?.user.name || me.value?.user.id || ""} />
          <span>
            <strong>{me.value?.user.name || me.value?.user.id}</strong>
            <small>@{me.value?.user.id}</small>
          </span>
          <Icon name="gear" />
        </button>
      </footer>
    </nav>
  );
}

function RoomRow({ room, marked, onOpen }: { room: Room; marked: boolean; onOpen: () => void }) {
  const { kind, archived } = room.record.value;
  const title = titleOf(room);
  const unread = room.unread.value;
  const calls = kind === "direct" ? unread : room.mentions.value;
  const here = route.value.room === room.id;
  const other = kind === "direct" ? partner(room) : null;
  const spoken = [unread > 0 && t().rooms.unread(unread), room.mentions.value > 0 && t().rooms.mentions(room.mentions.value)].filter(Boolean);
  return (
    <li>
      <a
        href={roomPath(room.id)}
        class={`room${unread > 0 ? " unread" : ""}${marked ? " marked" : ""}${archived ? " archived" : ""}`}
        aria-current={here ? "page" : undefined}
          onClick={(event) => {
          follow(event);
          if (event.defaultPrevented) onOpen();
        }}
      >
        {other !== null ? (
          <Avatar name={other} size="s" online={room.present.value.has(other)} />
        ) : (
          <span class={`sign hue${kind === "private" ? "-lock" : ""}`} aria-hidden="true">
            {kind === "private" ? <Icon name="lock" size={16} /> : "#"}
          </span>
        )}
        <span class="title">{title}</span>
        {spoken.length > 0 && <span class="sr">, {spoken.join(", ")}</span>}
        {unread > 0 && (
          <span class={calls > 0 ? "badge calls" : "badge"} aria-hidden="true">
            {(calls || unread) > MOST_SHOWN ? `${MOST_SHOWN}+` : calls || unread}
          </span>
        )}
      </a>
    </li>
  );
}
