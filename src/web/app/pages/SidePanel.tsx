// What lies beside the messages: people, pins, a thread, the search, reports.
import { useSignal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import * as api from "../core/api.ts";
import { loadMembers, direct } from "../core/rooms.ts";
import { follow, go, roomPath } from "../core/route.ts";
import { canModerate, canWrite, me, panel, type Panel, type Room, rooms, titleOf } from "../core/state.ts";
import { setPinned } from "../core/actions.ts";
import type { Entry, Found, Member, Page, Pinned, Report, Role, Thread } from "../core/types.ts";
import { formatShort, t } from "../i18n/index.ts";
import { Avatar } from "../parts/Avatar.tsx";
import { confirm } from "../parts/Confirm.tsx";
import { Icon } from "../parts/Icon.tsx";
import { attempt, type Failure, Problem } from "../parts/Problem.tsx";
import { Text } from "../parts/Text.tsx";
import { type Item, Log } from "../timeline/log.ts";
import { MessageRow } from "../timeline/MessageRow.tsx";
import { Composer, type ComposerHandle } from "./Composer.tsx";

export function SidePanel({ room, panel: shown }: { room: Room; panel: Panel }) {
  const r = t().room;
  const titles = { people: r.people, pins: r.pins, search: r.search, reports: r.reports, thread: r.thread };
  return (
    <aside class="panel" aria-label={titles[shown.kind]}>
      <header>
        <h2>{titles[shown.kind]}</h2>
        <button type="button" class="ghost icon-only" aria-label={t().close} onClick={() => (panel.value = null)}>
          <Icon name="close" />
        </button>
      </header>
      {shown.kind === "people" && <People room={room} />}
      {shown.kind === "pins" && <Pins room={room} />}
      {shown.kind === "search" && <Search room={room} />}
      {shown.kind === "reports" && <Reports room={room} />}
      {shown.kind === "thread" && <ThreadView key={`${room.id}/${shown.root}`} room={room} root={shown.root} />}
    </aside>
  );
}

/** Loads something when it shows, and says where that failed. */
function useLoaded<T>(load: () => Promise<T>, on: unknown[]) {
  const [value, setValue] = useState<T | null>(null);
  const [failed, setFailed] = useState<Failure | null>(null);
  const [again, setAgain] = useState(0);
  useEffect(() => {
    let current = true;
    setFailed(null);
    load().then(
      (got) => current && setValue(got),
      (reason: unknown) => current && setFailed({ reason }),
    );
    return () => {
      current = false;
    };
  }, [...on, again]);
  return { value, failed, reload: () => setAgain((n) => n + 1) };
}

// ---- people ---------------------------------------------------------------------------------------------------------------

const ORDER: Role[] = ["owner", "moderator", "member", "muted"];

function People({ room }: { room: Room }) {
  const p = t().people;
  const query = useSignal("");
  useEffect(() => void loadMembers(room), [room]);
  const wanted = query.value.toLowerCase();
  const people = (room.members.value ?? []).filter((one) => one.user.toLowerCase().includes(wanted));
  const sorted = [...people].sort((a, b) => ORDER.indexOf(a.role) - ORDER.indexOf(b.role) || a.user.localeCompare(b.user));
  return (
    <div class="scroll">
      <input
        type="search"
        aria-label={p.filter}
        placeholder={p.filter}
        value={query.value}
        onInput={(event) => (query.value = event.currentTarget.value)}
      />
      <ul class="people">
        {sorted.slice(0, 500).map((one) => (
          <Person key={one.user} room={room} one={one} />
        ))}
      </ul>
      {canModerate(room) && room.record.value.kind !== "direct" && <Bans room={room} />}
    </div>
  );
}

function Person({ room, one }: { room: Room; one: Member }) {
  const p = t().people;
  const mine = me.value?.user.id === one.user;
  const owns = room.role.value === "owner";
  const above = owns || (canModerate(room) && (one.role === "member" || one.role === "muted"));
  const online = room.present.value.has(one.user) || mine;
  const own = room.record.value.kind === "direct";
  const path = `rooms/${room.id}/members/${encodeURIComponent(one.user)}`;
  const roles = owns ? ORDER : (["member", "muted"] as const);
  return (
    <li>
      <Avatar name={one.user} online={online} />
      <span class="about">
        <strong>
          {one.user} {mine && <small>({t().you})</small>}
        </strong>
        <small>
          {p[one.role]}
          {online && <span class="sr">, {p.online}</span>}
        </small>
      </span>
      {!mine && !own && (
        <button
          type="button"
          class="ghost icon-only"
          aria-label={`${p.message} ${one.user}`}
          title={p.message}
          onClick={() => void attempt(() => direct(one.user))}
        >
          <Icon name="thread" size={18} />
        </button>
      )}
      {above && !mine && !own && (
        <details class="manage">
          <summary aria-label={`${t().more} ${one.user}`}>
            <Icon name="more" size={18} />
          </summary>
          <div>
            <select
              aria-label={p.role(one.user)}
              value={one.role}
              onChange={(event) => {
                const role = event.currentTarget.value;
                void attempt(() => api.put(path, { role }), t().saved).then(() => loadMembers(room));
              }}
            >
              {roles.map((role) => (
                <option key={role} value={role}>
                  {p[role]}
                </option>
              ))}
            </select>
            <button
              type="button"
              class="small"
              onClick={() =>
                confirm({
                  title: p.kickAsk(one.user),
                  hint: "",
                  action: p.kick,
                  act: async () => {
                    await api.del(path);
                    await loadMembers(room);
                  },
                })
              }
            >
              {p.kick}
            </button>
            <button
              type="button"
              class="small danger"
              onClick={() =>
                confirm({
                  title: p.banAsk(one.user),
                  hint: p.banHint,
                  action: p.ban,
                  act: async () => {
                    await api.put(`rooms/${room.id}/bans/${encodeURIComponent(one.user)}`);
                    await loadMembers(room);
                  },
                })
              }
            >
              {p.ban}
            </button>
          </div>
        </details>
      )}
    </li>
  );
}

function Bans({ room }: { room: Room }) {
  const p = t().people;
  const { value, reload } = useLoaded(() => api.all<{ user: string }>(`rooms/${room.id}/bans`), [room, room.members.value]);
  if (!value) return null;
  return (
    <section>
      <h3>{p.banned}</h3>
      {value.length === 0 && <p class="quiet">{p.bannedNone}</p>}
      <ul class="people">
        {value.map(({ user }) => (
          <li key={user}>
            <Avatar name={user} />
            <span class="about">
              <strong>{user}</strong>
            </span>
            <button
              type="button"
              class="small"
              onClick={() => void attempt(() => api.del(`rooms/${room.id}/bans/${encodeURIComponent(user)}`)).then(reload)}
            >
              {p.unban}
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}

// ---- pins -----------------------------------------------------------------------------------------------------------------

function Pins({ room }: { room: Room }) {
  const { value, failed, reload } = useLoaded(() => api.all<Pinned>(`rooms/${room.id}/pins`), [room, room.pins.value]);
  return (
    <div class="scroll">
      <Problem of={failed} onRetry={reload} />
      {value?.length === 0 && <p class="quiet">{t().none}</p>}
      {value?.map(({ message, pinned_by, pinned_at }) => (
        <div class="found" key={message.seq}>
          <a href={roomPath(room.id, message.seq)} onClick={follow}>
            <strong>{message.user}</strong> <small>{formatShort(message.at)}</small>
            <span class="snippet">{message.deleted ? t().message.deleted : message.text}</span>
          </a>
          <p class="quiet">
            <Icon name="pin" size={14} /> {pinned_by}, {formatShort(pinned_at)}
            {canModerate(room) && (
              <button type="button" class="small" onClick={() => void attempt(() => setPinned(room, message.seq, false)).then(reload)}>
                {t().message.unpin}
              </button>
            )}
          </p>
        </div>
      ))}
    </div>
  );
}

// ---- search ---------------------------------------------------------------------------------------------------------------

function Search({ room }: { room: Room }) {
  const s = t().search;
  const field = useRef<HTMLInputElement>(null);
  const [query, setQuery] = useState("");
  const [from, setFrom] = useState("");
  const [here, setHere] = useState(true);
  const [found, setFound] = useState<{ items: Found[]; next: string | null } | null>(null);
  const [failed, setFailed] = useState<Failure | null>(null);
  const [busy, setBusy] = useState(false);
  useEffect(() => field.current?.focus(), []);
  const ask = async (cursor?: string): Promise<void> => {
    if (!query.trim()) return;
    setBusy(true);
    setFailed(null);
    try {
      const page = await api.get<Page<Found>>("search", {
        q: query.trim(),
        room: here ? room.id : undefined,
        from: from.trim() || undefined,
        limit: 30,
        cursor,
      });
      setFound((old) => ({ items: cursor ? [...(old?.items ?? []), ...page.items] : page.items, next: page.next }));
    } catch (reason) {
      setFailed({ reason });
    }
    setBusy(false);
  };
  return (
    <div class="scroll">
      <form
        class="search-form"
        role="search"
        onSubmit={(event) => {
          event.preventDefault();
          void ask();
        }}
      >
        <input
          ref={field}
          type="search"
          aria-label={s.title}
          placeholder={s.placeholder}
          maxLength={200}
          value={query}
          onInput={(event) => setQuery(event.currentTarget.value)}
        />
        <div class="pair">
          <select aria-label={s.title} value={here ? "here" : "all"} onChange={(event) => setHere(event.currentTarget.value === "here")}>
            <option value="here">{s.here}</option>
            <option value="all">{s.everywhere}</option>
          </select>
          <input aria-label={s.from} placeholder={s.from} value={from} onInput={(event) => setFrom(event.currentTarget.value)} />
        </div>
        <button type="submit" class="primary" disabled={busy || !query.trim()}>
          {s.title}
        </button>
      </form>
      <Problem of={failed} />
      {found && found.items.length === 0 && !busy && (
        <div class="hint-box">
          <p>
            <strong>{s.none}</strong>
          </p>
          <p>{s.noneHint}</p>
        </div>
      )}
      <ul class="results" aria-label={s.results}>
        {found?.items.map((one) => (
          <li key={`${one.room}/${one.seq}`}>
            <a class="found" href={roomPath(one.room, one.seq)} onClick={follow}>
              <strong>{one.user}</strong> <small>{formatShort(one.at)}</small>
              {!here && <small> · {titleIn(one.room)}</small>}
              <Highlighted text={one.snippet} places={one.highlights} />
            </a>
          </li>
        ))}
      </ul>
      {found?.next && (
        <button type="button" class="wide" disabled={busy} onClick={() => void ask(found.next ?? undefined)}>
          {s.more}
        </button>
      )}
    </div>
  );
}

function titleIn(id: string): string {
  const room = rooms.value.get(id);
  return room ? titleOf(room) : id;
}

/** Places are counted in characters, not in what JavaScript counts. */
function Highlighted({ text, places }: { text: string; places: [number, number][] }) {
  const letters = [...text];
  const out = [];
  let at = 0;
  for (const [from, to] of places) {
    if (from < at) continue;
    out.push(letters.slice(at, from).join(""), <mark>{letters.slice(from, to).join("")}</mark>);
    at = to;
  }
  out.push(letters.slice(at).join(""));
  return <span class="snippet">{out}</span>;
}

// ---- thread ---------------------------------------------------------------------------------------------------------------

/** Messages of a thread shown at most. */
const THREAD = 1_000;

function ThreadView({ room, root }: { room: Room; root: number }) {
  const [log] = useState(() => new Log(room.id, me.peek()?.user.id ?? ""));
  const [failed, setFailed] = useState<Failure | null>(null);
  const active = useSignal<string | null>(null);
  const editing = useSignal<Item | null>(null);
  const composer = useRef<ComposerHandle | null>(null);
  const end = useRef<HTMLDivElement>(null);
  const version = log.version.value;

  const load = async (): Promise<void> => {
    setFailed(null);
    try {
      await log.seed(async () => {
        const items: Entry[] = [];
        let cursor: string | undefined;
        do {
          const page: Thread = await api.get<Thread>(`rooms/${room.id}/messages/${root}/thread`, { limit: 200, cursor });
          items.push(...page.items);
          cursor = page.next ?? undefined;
        } while (cursor && items.length < THREAD);
        return items;
      });
    } catch (reason) {
      setFailed({ reason });
    }
  };
  useEffect(() => {
    const listen = (entries: readonly Entry[]): void => {
      const of = entries.filter(
        (entry) => entry.kind !== "room" && (entry.kind !== "message" || (entry.reply_to !== undefined && belongs(log, root, entry.reply_to))),
      );
      if (of.length > 0) log.apply(of);
    };
    room.listeners.add(listen);
    void load();
    return () => room.listeners.delete(listen);
  }, [log]);
  useEffect(() => end.current?.scrollIntoView({ block: "nearest" }), [log.items.length]);

  return (
    <>
      <div
        class="scroll thread"
        data-version={version}
        onMouseOver={(event) => (active.value = (event.target as HTMLElement).closest<HTMLElement>("[data-key]")?.dataset["key"] ?? null)}
        onFocusIn={(event) => (active.value = (event.target as HTMLElement).closest<HTMLElement>("[data-key]")?.dataset["key"] ?? null)}
      >
        <Problem of={failed} onRetry={() => void load()} />
        {log.items.map((item, index) => (
          <div class="row" key={item.key} data-key={item.key}>
            <MessageRow
              room={room}
              item={item}
              joined={index > 1 && log.items[index - 1]?.user === item.user}
              newDay={false}
              firstUnread={false}
              active={active.value === item.key}
              marked={false}
              quoted={undefined}
              readers={[]}
              inThread
              actions={{
                reply: () => composer.current?.focus(),
                edit: (one) => (editing.value = one),
                show: (seq) => go(roomPath(room.id, seq)),
              }}
            />
            {index === 0 && log.items.length > 1 && <p class="count">{t().message.replies(log.items.length - 1)}</p>}
          </div>
        ))}
        <div ref={end} />
      </div>
      {canWrite(room) && (
        <Composer
          room={room}
          replyTo={null}
          editing={editing.value}
          thread={root}
          handle={composer}
          onEditLast={() => {}}
          onDone={() => (editing.value = null)}
        />
      )}
    </>
  );
}

const belongs = (log: Log, root: number, seq: number): boolean => seq === root || log.get(seq) !== undefined;

// ---- reports --------------------------------------------------------------------------------------------------------------

function Reports({ room }: { room: Room }) {
  const r = t().reports;
  const [state, setState] = useState<"open" | "closed">("open");
  const { value, failed, reload } = useLoaded(() => api.all<Report>(`rooms/${room.id}/reports`, { state }, 200), [room, state]);
  return (
    <div class="scroll">
      <div class="tabs">
        {(["open", "closed"] as const).map((one) => (
          <button key={one} type="button" class="tab" aria-pressed={state === one} onClick={() => setState(one)}>
            {r[one]}
          </button>
        ))}
      </div>
      <Problem of={failed} onRetry={reload} />
      {value?.length === 0 && <p class="quiet">{r.none}</p>}
      {value?.map((one) => (
        <OneReport key={one.report} room={room} report={one} onDone={reload} />
      ))}
    </div>
  );
}

function OneReport({ room, report, onDone }: { room: Room; report: Report; onDone: () => void }) {
  const r = t().reports;
  const [note, setNote] = useState("");
  const close = (action: "none" | "deleted" | "banned") => () =>
    void attempt(
      () => api.put(`rooms/${room.id}/reports/${report.report}`, { state: "closed", action, ...(note.trim() && { note: note.trim() }) }),
      r.decided[action],
    ).then(onDone);
  return (
    <article class="report">
      <p class="quiet">
        {r.by(report.reporter)} · {formatShort(report.at)}
      </p>
      <p>“{report.reason}”</p>
      <a class="found" href={roomPath(room.id, report.seq)} onClick={follow}>
        <strong>{report.user}</strong>
        <span class="snippet">
          {report.text === null ? r.gone : <Text text={report.text} mentions={[]} mentionsRoom={false} />}
        </span>
      </a>
      {report.closed ? (
        <p class="quiet">
          <Icon name="check" size={14} /> {r.decided[report.closed.action]} · {report.closed.by}, {formatShort(report.closed.at)}
          {report.closed.note && <span> · {report.closed.note}</span>}
        </p>
      ) : (
        <>
          <input aria-label={r.note} placeholder={r.note} maxLength={1000} value={note} onInput={(event) => setNote(event.currentTarget.value)} />
          <div class="buttons">
            <button type="button" class="small" onClick={close("none")}>
              {r.nothing}
            </button>
            <button type="button" class="small danger" onClick={close("deleted")}>
              {r.delete}
            </button>
            {report.user !== null && (
              <button type="button" class="small danger" onClick={close("banned")}>
                {r.ban}
              </button>
            )}
          </div>
        </>
      )}
    </article>
  );
}
