// The room that is shown: its head, its messages, where one writes, and what lies beside it.
import { useSignal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { join, leave } from "../core/rooms.ts";
import {
  canModerate, canWrite, connection, dialog, listOpen, me, panel, partner, type Room, titleOf,
} from "../core/state.ts";
import { tryNow } from "../core/live.ts";
import { clock } from "../core/clock.ts";
import { t } from "../i18n/index.ts";
import { confirm } from "../parts/Confirm.tsx";
import { Icon, type IconName } from "../parts/Icon.tsx";
import { MenuItem, Popover } from "../parts/Popover.tsx";
import { attempt } from "../parts/Problem.tsx";
import type { Item } from "../timeline/log.ts";
import { MessageList } from "../timeline/MessageList.tsx";
import type { ListHandle } from "../timeline/VirtualList.tsx";
import { Composer, type ComposerHandle } from "./Composer.tsx";
import { SidePanel } from "./SidePanel.tsx";

export function RoomView({ room }: { room: Room }) {
  const list = useRef<ListHandle | null>(null);
  const composer = useRef<ComposerHandle | null>(null);
  const replyTo = useSignal<Item | null>(null);
  const editing = useSignal<Item | null>(null);
  const dragged = useSignal(0);
  const writes = canWrite(room);

  useEffect(() => {
    replyTo.value = null;
    editing.value = null;
  }, [room]);

  const editLast = (): void => {
    const mine = me.peek()?.user.id;
    const last = room.log.items.findLast((item) => item.user === mine && !item.change && !item.deleted);
    if (last) editing.value = last;
  };

  return (
    <div class={panel.value ? "room-view with-panel" : "room-view"}>
      <main
        class="room-main"
        aria-label={titleOf(room)}
        onDragEnter={(event) => {
          if (event.dataTransfer?.types.includes("Files")) dragged.value++;
        }}
        onDragLeave={() => (dragged.value = Math.max(0, dragged.value - 1))}
        onDragOver={(event) => {
          if (event.dataTransfer?.types.includes("Files")) event.preventDefault();
        }}
        onDrop={(event) => {
          dragged.value = 0;
          if (!event.dataTransfer?.files.length) return;
          event.preventDefault();
          if (writes) composer.current?.add([...event.dataTransfer.files]);
        }}
      >
        <Head room={room} />
        <ConnectionBar />
        <MessageList
          key={room.id}
          room={room}
          handle={list}
          onReply={(item) => {
            editing.value = null;
            replyTo.value = item;
          }}
          onEdit={(item) => {
            replyTo.value = null;
            editing.value = item;
          }}
        />
        <TypingLine room={room} />
        {writes ? (
          <Composer
            room={room}
            replyTo={replyTo.value}
            editing={editing.value}
            handle={composer}
            onEditLast={editLast}
            onDone={() => {
              const sent = !editing.value;
              replyTo.value = null;
              editing.value = null;
              if (sent && !room.log.newer) list.current?.toEnd();
              composer.current?.focus();
            }}
          />
        ) : (
          <CannotWrite room={room} />
        )}
        {dragged.value > 0 && writes && (
          <div class="drop">
            <Icon name="clip" size={32} /> {t().composer.drop}
          </div>
        )}
      </main>
      {panel.value && <SidePanel key={panel.value.kind} room={room} panel={panel.value} />}
    </div>
  );
}

function Head({ room }: { room: Room }) {
  const r = t().room;
  const [menu, setMenu] = useState<HTMLElement | null>(null);
  const { kind, topic, slow_mode_s: slow, archived } = room.record.value;
  const title = titleOf(room);
  const other = kind === "direct" ? partner(room) : null;
  const people = room.members.value?.length;
  const online = room.online.value;
  const toggle = (what: "people" | "pins" | "search" | "reports", icon: IconName, label: string) => (
    <button
      type="button"
      class="ghost icon-only"
      aria-label={label}
      title={label}
      aria-pressed={panel.value?.kind === what}
      onClick={() => (panel.value = panel.value?.kind === what ? null : { kind: what })}
    >
      <Icon name={icon} />
    </button>
  );
  const pick = (act: () => void) => () => {
    setMenu(null);
    act();
  };
  const facts = [
    other === null && people !== undefined && r.members(people),
    online !== null && online > 0 && r.online(online),
    slow > 0 && t().settings.slowMode,
    archived && t().rooms.archived,
  ].filter(Boolean);
  return (
    <header class="room-head">
      <button type="button" class="ghost icon-only only-narrow" aria-label={t().rooms.title} onClick={() => (listOpen.value = true)}>
        <Icon name="back" />
      </button>
      <div class="about">
        <h1>
          {kind === "private" && <Icon name="lock" size={17} />}
          {kind === "public" && <span class="hash">#</span>}
          {title}
        </h1>
        <p>
          <span class="facts">{facts.join(" · ")}</span>
          {topic && <span class="topic">{topic}</span>}
        </p>
      </div>
      <div class="room-tools">
        {toggle("search", "search", r.search)}
        <button type="button" class="ghost icon-only wide-only" aria-label={r.jump} title={r.jump} onClick={() => (dialog.value = { kind: "jump" })}>
          <Icon name="calendar" />
        </button>
        {toggle("pins", "pin", r.pins)}
        {toggle("people", "people", r.people)}
        <button type="button" class="ghost icon-only" aria-label={t().more} title={t().more} onClick={(event) => setMenu(event.currentTarget)}>
          <Icon name="more" />
        </button>
      </div>
      {menu && (
        <Popover anchor={menu} role="menu" label={t().more} onClose={() => setMenu(null)}>
          <MenuItem onPick={pick(() => (dialog.value = { kind: "jump" }))}>
            <Icon name="calendar" size={18} /> {r.jump}
          </MenuItem>
          {canModerate(room) && kind !== "direct" && (
            <MenuItem onPick={pick(() => (dialog.value = { kind: "invite" }))}>
              <Icon name="link" size={18} /> {r.invite}
            </MenuItem>
          )}
          {canModerate(room) && (
            <MenuItem onPick={pick(() => (panel.value = { kind: "reports" }))}>
              <Icon name="flag" size={18} /> {r.reports}
            </MenuItem>
          )}
          {canModerate(room) && (
            <MenuItem onPick={pick(() => (dialog.value = { kind: "room" }))}>
              <Icon name="gear" size={18} /> {r.settings}
            </MenuItem>
          )}
          {room.role.value !== null && (
            <MenuItem
              danger
              onPick={pick(() =>
                confirm({
                  title: t().rooms.leaveAsk(title),
                  hint: t().rooms.leaveHint,
                  action: t().rooms.leave,
                  act: () => leave(room.id),
                }),
              )}
            >
              <Icon name="out" size={18} /> {t().rooms.leave}
            </MenuItem>
          )}
        </Popover>
      )}
    </header>
  );
}

/** Says how the connection is, when it is not well. */
export function ConnectionBar() {
  const c = t().connection;
  const now = connection.value;
  if (now.state === "live") return <div class="connection sr" role="status" data-state="live">{c.live}</div>;
  const text =
    now.state === "away" ? c.away(Math.max(0, Math.ceil((now.until - clock.value) / 1000))) : c[now.state];
  return (
    <div class={`connection ${now.state}`} role="status" data-state={now.state}>
      <i class="pulse" aria-hidden="true" />
      {text}
      {(now.state === "away" || now.state === "offline") && (
        <button type="button" class="small" onClick={tryNow}>
          {c.tryNow}
        </button>
      )}
    </div>
  );
}

function TypingLine({ room }: { room: Room }) {
  const r = t().room;
  const now = clock.value;
  const people = [...room.typing.value].filter(([user, until]) => until > now && user !== me.value?.user.id).map(([user]) => user);
  const [one, two] = people;
  const text = !one ? "" : !two ? r.typingOne(one) : people.length === 2 ? r.typingTwo(one, two) : r.typingMany;
  return (
    <div class="typing" aria-live="polite">
      {text && (
        <>
          <span class="dots" aria-hidden="true">
            <i />
            <i />
            <i />
          </span>
          {text}
        </>
      )}
    </div>
  );
}

function CannotWrite({ room }: { room: Room }) {
  const r = t().room;
  const visitor = room.role.value === null;
  return (
    <div class="cannot-write" role="note">
      <p>{room.record.value.archived ? r.archived : visitor ? r.visitor : r.muted}</p>
      {visitor && (
        <button type="button" class="primary" onClick={() => void attempt(() => join(room.id), t().rooms.joined)}>
          {t().rooms.join}
        </button>
      )}
    </div>
  );
}
