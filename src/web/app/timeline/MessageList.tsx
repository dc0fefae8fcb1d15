// The messages of the room that is shown.
import { useSignal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { markRead } from "../core/actions.ts";
import { go, roomPath, route } from "../core/route.ts";
import { canWrite, me, panel, pending, type Room, titleOf, toast } from "../core/state.ts";
import { dayOf, t } from "../i18n/index.ts";
import { Icon } from "../parts/Icon.tsx";
import { Problem } from "../parts/Problem.tsx";
import type { Item } from "./log.ts";
import { askDelete, MessageRow, PendingRow, type RowActions } from "./MessageRow.tsx";
import { type ListHandle, VirtualList } from "./VirtualList.tsx";

/** Messages of one person with less between them stand together. */
const TOGETHER_MS = 5 * 60_000;
/** With more unread than this, the page begins where they do. */
const FAR_UNREAD = 60;

interface Props {
  room: Room;
  onReply: (item: Item) => void;
  onEdit: (item: Item) => void;
  handle: { current: ListHandle | null };
}

export function MessageList({ room, onReply, onEdit, handle }: Props) {
  const { log } = room;
  const version = log.version.value;
  const active = useSignal<string | null>(null);
  const marked = useSignal<number | null>(null);
  const atEnd = useSignal(true);
  const wait = useMemo(() => pending.value.filter((one) => one.room === room.id && !log.items.some((item) => item.key === one.key)), [
    pending.value,
    version,
    room,
  ]);
  // Where the unread ones began when the room was opened.
  const unreadFrom = useRef(room.unread.peek() > 0 ? room.readSeq.peek() : Number.MAX_SAFE_INTEGER);
  const placed = useRef(false);
  const wanted = useRef<number | null>(null);
  const items = log.items;
  const count = items.length + wait.length;

  const place = async (seq: number | null): Promise<void> => {
    wanted.current = null;
    if (seq !== null) {
      if (!log.get(seq) && !(await log.loadAround(seq))) return;
      if (!log.get(seq)) toast(t().room.noSuchMessage);
      wanted.current = log.get(seq) ? seq : (items[log.indexOf(seq)]?.seq ?? null);
      marked.value = seq;
      log.version.value++;
      return;
    }
    if (placed.current) return;
    const far = room.unread.peek() > FAR_UNREAD;
    if (!log.ready && !(await (far ? log.loadAround(room.readSeq.peek() + 1) : log.loadLatest()))) return;
    placed.current = true;
    const first = log.items.find((item) => item.seq > unreadFrom.current && item.user !== me.peek()?.user.id);
    if (first) {
      wanted.current = first.seq;
      log.version.value++;
    }
  };

  const asked = route.value;
  useEffect(() => {
    if (asked.room === room.id) void place(asked.seq);
  }, [asked, room]);

  // Brings what was asked for into sight once it is in the list.
  useEffect(() => {
    const seq = wanted.current;
    if (seq === null) return;
    const item = log.get(seq);
    if (item && handle.current?.show(item.key, marked.value === seq ? "center" : "start")) {
      wanted.current = null;
      placed.current = true;
      if (marked.value === seq) {
        active.value = item.key;
        handle.current.focus(item.key);
      }
    }
  });

  const read = (): void => {
    if (atEnd.value && !log.newer && log.ready && document.visibilityState === "visible" && document.hasFocus()) markRead(room);
  };
  useEffect(read, [version, atEnd.value]);
  useEffect(() => {
    addEventListener("focus", read);
    document.addEventListener("visibilitychange", read);
    return () => {
      removeEventListener("focus", read);
      document.removeEventListener("visibilitychange", read);
    };
  }, [room]);

  const actions: RowActions = {
    reply: onReply,
    edit: onEdit,
    show: (seq) => go(roomPath(room.id, seq)),
  };

  const readers = new Map<string, string[]>();
  for (const [user, seq] of room.reads.value) {
    if (user === me.value?.user.id) continue;
    let at = log.indexOf(seq + 1) - 1;
    while (at >= 0 && items[at]?.change) at--;
    const item = items[at];
    if (item && item.user !== user) readers.set(item.key, [...(readers.get(item.key) ?? []), user]);
  }

  const keyAt = (index: number): string => items[index]?.key ?? wait[index - items.length]?.key ?? `?${index}`;
  const render = (index: number) => {
    const item = items[index];
    const before = items[index - 1];
    if (!item) {
      const message = wait[index - items.length];
      if (!message) return null;
      const previous = wait[index - items.length - 1]?.key ?? before?.key ?? "";
      return <PendingRow message={message} head={previous.split("/")[0] !== message.key.split("/")[0]} />;
    }
    const joined =
      before !== undefined &&
      before.change === null &&
      before.user === item.user &&
      item.replyTo === null &&
      Date.parse(item.at) - Date.parse(before.at) < TOGETHER_MS;
    return (
      <MessageRow
        room={room}
        item={item}
        joined={joined}
        newDay={before ? dayOf(before.at) !== dayOf(item.at) : !log.older}
        firstUnread={item.seq > unreadFrom.current && (before?.seq ?? unreadFrom.current) <= unreadFrom.current && !(index === 0 && log.older)}
        active={active.value === item.key}
        marked={marked.value === item.seq}
        quoted={item.replyTo === null ? undefined : log.get(item.replyTo)}
        readers={readers.get(item.key) ?? []}
        actions={actions}
      />
    );
  };

  const toLatest = async (): Promise<void> => {
    if (log.newer && !(await log.loadLatest())) return;
    marked.value = null;
    active.value = null;
    if (route.peek().seq !== null) go(roomPath(room.id), true);
    handle.current?.toEnd();
  };

  const onKey = (event: KeyboardEvent): void => {
    if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
    const row = (event.target as HTMLElement).closest<HTMLElement>("[data-index]");
    if (!row || (event.target as HTMLElement).closest("input, textarea")) return;
    const index = Number(row.dataset["index"]);
    const item = items[index];
    const step = { ArrowUp: -1, ArrowDown: 1, k: -1, j: 1, Home: -index, End: count - 1 - index, PageUp: -10, PageDown: 10 }[event.key];
    if (step !== undefined) {
      const next = Math.max(0, Math.min(count - 1, index + step));
      if (step > 0 && index === count - 1) document.querySelector<HTMLElement>(".composer textarea")?.focus();
      else focusRow(next);
    } else if (!item || item.change || item.deleted) return;
    else if (event.key === "r" && canWrite(room)) onReply(item);
    else if (event.key === "e" && item.user === me.value?.user.id && canWrite(room)) onEdit(item);
    else if (event.key === "t") panel.value = { kind: "thread", root: log.rootOf(item.seq) };
    else if (event.key === "+") row.querySelector<HTMLElement>(".tools [aria-label]:nth-of-type(4)")?.click();
    else if (event.key === "Delete") askDelete(room, item);
    else return;
    event.preventDefault();
  };
  const focusRow = (index: number): void => {
    const key = keyAt(index);
    active.value = key;
    handle.current?.show(key, "nearest");
    handle.current?.focus(key);
  };

  const activate = (event: Event): void => {
    const row = (event.target as HTMLElement).closest<HTMLElement>("[data-key]");
    if (row?.dataset["key"] && active.value !== row.dataset["key"]) active.value = row.dataset["key"];
  };

  const failed = log.failed.value;
  const below = items.length && !atEnd.value ? room.unread.value : 0;
  const again = (): void => {
    if (failed?.side === "older") void log.loadOlder();
    else if (failed?.side === "newer") void log.loadNewer();
    else void place(route.peek().seq);
  };
  return (
    <div class="timeline" onKeyDown={onKey} onMouseOver={activate} onFocusIn={activate} onClick={activate}>
      <VirtualList
        handle={handle}
        count={count}
        keyAt={keyAt}
        render={render}
        version={version + 1}
        label={t().room.messages(titleOf(room))}
        busy={log.loading.value !== null}
        onEdge={(edge) => {
          if (log.failed.peek()) return;
          if (edge === "start") void log.loadOlder();
          else void log.loadNewer();
        }}
        onMove={(state) => {
          atEnd.value = state.atEnd;
        }}
        before={
          <div class="top">
            {log.ready && !log.older ? (
              <div class="beginning">
                <span class="first-letter" aria-hidden="true">{[...titleOf(room)][0]?.toUpperCase()}</span>
                <h2>{titleOf(room)}</h2>
                <p>{room.record.value.topic || t().room.beginning}</p>
                {count === 0 && <p>{t().room.empty}</p>}
              </div>
            ) : (
              // As high with words as without.
              <p class="quiet">{log.loading.value !== null ? t().room.olderLoading : "\u00a0"}</p>
            )}
          </div>
        }
        after={<div class="end" />}
      />
      {failed && <Problem of={{ reason: failed.error }} onRetry={again} />}
      {(!atEnd.value || log.newer) && count > 0 && (
        <button type="button" class="to-latest" onClick={() => void toLatest()}>
          <Icon name="down" size={16} />
          {below > 0 ? t().room.newMessages(below) : t().room.toLatest}
        </button>
      )}
    </div>
  );
}
