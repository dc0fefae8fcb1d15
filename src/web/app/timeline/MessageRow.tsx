// One message, or one change of the room, as it stands in the list.
import { useState } from "preact/hooks";
import { canModerate, canWrite, dialog, me, type Pending, panel, type Room } from "../core/state.ts";
import { follow, roomPath } from "../core/route.ts";
import { attachmentsOf, type RoomEntry } from "../core/types.ts";
import { discard, react, remove, resend, setPinned } from "../core/actions.ts";
import { formatDay, formatDuration, formatFull, formatPeople, formatTime, t } from "../i18n/index.ts";
import { Avatar, hueOf } from "../parts/Avatar.tsx";
import { confirm } from "../parts/Confirm.tsx";
import { Emoji, quick } from "../parts/Emoji.tsx";
import { Files } from "../parts/Files.tsx";
import { Icon } from "../parts/Icon.tsx";
import { MenuItem, Popover } from "../parts/Popover.tsx";
import { attempt } from "../parts/Problem.tsx";
import { explain } from "../core/explain.ts";
import { Text } from "../parts/Text.tsx";
import type { Item } from "./log.ts";

export interface RowActions {
  reply: (item: Item) => void;
  edit: (item: Item) => void;
  show: (seq: number) => void;
}

interface Props {
  room: Room;
  item: Item;
  /** Goes on where the one before ended: same person, a little later. */
  joined: boolean;
  newDay: boolean;
  firstUnread: boolean;
  active: boolean;
  marked: boolean;
  quoted: Item | undefined;
  readers: readonly string[];
  inThread?: boolean;
  actions: RowActions;
}

/** Faces of readers shown under a message. */
const FACES = 6;

export function MessageRow(props: Props) {
  const { item, newDay, firstUnread } = props;
  return (
    <>
      {newDay && (
        <div class="day">
          <span>{formatDay(item.at)}</span>
        </div>
      )}
      {firstUnread && (
        <div class="fresh">
          <span>{t().room.unreadMark}</span>
        </div>
      )}
      {item.change ? <Change change={item.change} /> : <Message {...props} />}
    </>
  );
}

function Change({ change }: { change: RoomEntry }) {
  const c = t().message.changedRoom;
  const who = change.user;
  const said: string[] = [];
  if (change.name !== undefined) said.push(c.name(who, change.name));
  if (change.topic !== undefined) said.push(change.topic ? c.topic(who, change.topic) : c.noTopic(who));
  if (change.slow_mode_s !== undefined) said.push(change.slow_mode_s ? c.slow(who, formatDuration(change.slow_mode_s)) : c.notSlow(who));
  if (change.archived !== undefined) said.push(change.archived ? c.archived(who) : c.unarchived(who));
  if (change.ttl_s !== undefined) said.push(change.ttl_s ? c.ttl(who, formatDuration(change.ttl_s)) : c.noTtl(who));
  if (said.length === 0) said.push(c.other(who));
  return (
    <article class="change" tabIndex={-1} data-focus aria-label={said.join(" ")}>
      <p>
        {said.join(" ")} <time dateTime={change.at}>{formatTime(change.at)}</time>
      </p>
    </article>
  );
}

function Message({ room, item, joined, newDay, firstUnread, active, marked, quoted, readers, inThread = false, actions }: Props) {
  const m = t().message;
  const mine = item.user === me.value?.user.id;
  const head = !joined || newDay || firstUnread;
  const files = item.deleted ? [] : attachmentsOf(item.data);
  const calls = item.mentionsRoom || (me.value !== null && item.mentions.includes(me.value.user.id));
  return (
    <article
      class={`message${head ? " head" : ""}${active ? " active" : ""}${marked ? " marked" : ""}${calls ? " calls" : ""}`}
      tabIndex={-1}
      data-focus
      data-seq={item.seq}
      aria-label={`${item.user}, ${formatFull(item.at)}`}
    >
      <div class="gutter">
        {head ? <Avatar name={item.user} /> : <time dateTime={item.at}>{formatTime(item.at)}</time>}
      </div>
      <div class="body">
        {head && (
          <header>
            <strong class={`who ink${hueOf(item.user)}`}>{item.user}</strong>
            <a
              class="when"
              href={roomPath(room.id, item.seq)}
              title={formatFull(item.at)}
              onClick={follow}
            >
              <time dateTime={item.at}>{formatTime(item.at)}</time>
            </a>
            {room.pins.value?.has(item.seq) && (
              <span class="pinned" title={m.pinned}>
                <Icon name="pin" size={14} />
              </span>
            )}
          </header>
        )}
        {item.replyTo !== null && !inThread && (
          <button type="button" class="quote" onClick={() => actions.show(item.replyTo ?? 0)}>
            <Icon name="reply" size={14} />
            <strong>{quoted?.user ?? `#${item.replyTo}`}</strong>
            <span>{quoted ? (quoted.deleted ? m.deleted : quoted.text.slice(0, 160)) : ""}</span>
          </button>
        )}
        {item.deleted ? (
          <p class="text gone">{m.deleted}</p>
        ) : (
          <Text text={item.text} mentions={item.mentions} mentionsRoom={item.mentionsRoom} />
        )}
        {item.edited !== null && !item.deleted && (
          <button
            type="button"
            class="edited"
            title={formatFull(item.edited)}
            disabled={!canModerate(room)}
            onClick={() => (dialog.value = { kind: "revisions", seq: item.seq })}
          >
            {m.edited}
          </button>
        )}
        {files.length > 0 && <Files room={room.id} ids={files} />}
        {item.reactions.length > 0 && (
          <div class="reactions">
            {item.reactions.map(({ emoji, count, mine: own }) => (
              <button
                key={emoji}
                type="button"
                class={own ? "reaction own" : "reaction"}
                aria-pressed={own}
                aria-label={m.reaction(emoji, count)}
                disabled={!canWrite(room)}
                onClick={() => void attempt(() => react(room, item.seq, emoji, !own))}
              >
                <span>{emoji}</span> {count}
              </button>
            ))}
          </div>
        )}
        {item.replies > 0 && !inThread && (
          <button type="button" class="replies" onClick={() => (panel.value = { kind: "thread", root: room.log.rootOf(item.seq) })}>
            <Icon name="thread" size={16} /> {m.replies(item.replies)}
          </button>
        )}
        {readers.length > 0 && (
          <div class="readers" title={t().room.seenBy(formatPeople([...readers]))}>
            <span class="sr">{t().room.seenBy(formatPeople([...readers]))}</span>
            {readers.slice(0, FACES).map((one) => (
              <Avatar key={one} name={one} size="s" />
            ))}
          </div>
        )}
      </div>
      {active && !item.deleted && <Tools room={room} item={item} mine={mine} inThread={inThread} actions={actions} />}
    </article>
  );
}

interface ToolsProps {
  room: Room;
  item: Item;
  mine: boolean;
  inThread: boolean;
  actions: RowActions;
}

function Tools({ room, item, mine, inThread, actions }: ToolsProps) {
  const m = t().message;
  const [open, setOpen] = useState<{ what: "menu" | "emoji"; anchor: HTMLElement } | null>(null);
  const writes = canWrite(room);
  const moderates = canModerate(room);
  const close = (): void => setOpen(null);
  const pick = (act: () => void) => () => {
    close();
    act();
  };
  const pinned = room.pins.value?.has(item.seq) ?? false;
  const button = (name: Parameters<typeof Icon>[0]["name"], label: string, act: (anchor: HTMLElement) => void) => (
    <button type="button" class="ghost icon-only" aria-label={label} title={label} onClick={(event) => act(event.currentTarget)}>
      <Icon name={name} size={18} />
    </button>
  );
  return (
    <div class="tools" role="toolbar" aria-label={m.actions(item.user)}>
      {writes &&
        quick.slice(0, 3).map((emoji) => (
          <button
            key={emoji}
            type="button"
            class="ghost icon-only quick"
            aria-label={`${m.react} ${emoji}`}
            onClick={() => void attempt(() => react(room, item.seq, emoji, true))}
          >
            {emoji}
          </button>
        ))}
      {writes && button("smile", m.react, (anchor) => setOpen({ what: "emoji", anchor }))}
      {writes && button("reply", m.reply, () => actions.reply(item))}
      {!inThread && button("thread", m.openThread, () => (panel.value = { kind: "thread", root: room.log.rootOf(item.seq) }))}
      {button("more", t().more, (anchor) => setOpen({ what: "menu", anchor }))}
      {open?.what === "emoji" && (
        <Emoji anchor={open.anchor} onClose={close} onPick={(emoji) => void attempt(() => react(room, item.seq, emoji, true))} />
      )}
      {open?.what === "menu" && (
        <Popover anchor={open.anchor} label={t().more} role="menu" onClose={close}>
          {mine && writes && (
            <MenuItem onPick={pick(() => actions.edit(item))}>
              <Icon name="edit" size={18} /> {m.edit}
            </MenuItem>
          )}
          {moderates && !room.record.value.archived && (
            <MenuItem onPick={pick(() => void attempt(() => setPinned(room, item.seq, !pinned), pinned ? m.unpinned : m.pinned))}>
              <Icon name="pin" size={18} /> {pinned ? m.unpin : m.pin}
            </MenuItem>
          )}
          <MenuItem
            onPick={pick(
              () => void attempt(() => navigator.clipboard.writeText(location.origin + roomPath(room.id, item.seq)), t().copied),
            )}
          >
            <Icon name="link" size={18} /> {m.copyLink}
          </MenuItem>
          <MenuItem onPick={pick(() => void attempt(() => navigator.clipboard.writeText(item.text), t().copied))}>
            <Icon name="copy" size={18} /> {m.copyText}
          </MenuItem>
          {item.edited !== null && moderates && (
            <MenuItem onPick={pick(() => (dialog.value = { kind: "revisions", seq: item.seq }))}>
              <Icon name="clock" size={18} /> {m.revisions}
            </MenuItem>
          )}
          {!mine && (
            <MenuItem onPick={pick(() => (dialog.value = { kind: "report", seq: item.seq }))}>
              <Icon name="flag" size={18} /> {m.report}
            </MenuItem>
          )}
          {(mine || moderates) && (
            <MenuItem danger onPick={pick(() => askDelete(room, item))}>
              <Icon name="trash" size={18} /> {m.delete}
            </MenuItem>
          )}
        </Popover>
      )}
    </div>
  );
}

export function askDelete(room: Room, item: Item): void {
  const m = t().message;
  confirm({ title: m.deleteAsk, hint: m.deleteHint, action: m.delete, act: () => remove(room, item.seq) });
}

/** A message that is not in the log yet. */
export function PendingRow({ message, head }: { message: Pending; head: boolean }) {
  const m = t().message;
  const failed = message.state === "failed";
  const why = failed ? explain(message.error) : null;
  return (
    <article class={`message pending${head ? " head" : ""}${failed ? " failed" : ""}`} tabIndex={-1} data-focus>
      <div class="gutter">{head && <Avatar name={message.key.split("/")[0] ?? ""} />}</div>
      <div class="body">
        {head && (
          <header>
            <strong class={`who ink${hueOf(message.key.split("/")[0] ?? "")}`}>{message.key.split("/")[0]}</strong>
          </header>
        )}
        <Text text={message.text} mentions={[]} mentionsRoom={false} />
        {failed ? (
          <p class="state" role="alert">
            <Icon name="alert" size={15} /> <strong>{m.failed}.</strong> {why?.what} {why?.next} <small>{why?.detail}</small>
            <button type="button" class="small" onClick={() => resend(message)}>
              {t().retry}
            </button>
            <button type="button" class="small" onClick={() => discard(message)}>
              {m.discard}
            </button>
          </p>
        ) : (
          <p class="state">
            <Icon name="clock" size={15} /> {m.waiting}
          </p>
        )}
      </div>
    </article>
  );
}
