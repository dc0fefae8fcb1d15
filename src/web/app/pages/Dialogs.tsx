// The dialogs: which one is open. The larger ones are loaded when they are first wanted.
import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import * as api from "../core/api.ts";
import { createRoom, direct, join } from "../core/rooms.ts";
import { current, dialog, me, ownRooms, toast } from "../core/state.ts";
import { follow, go, roomPath } from "../core/route.ts";
import type { RoomRecord } from "../core/types.ts";
import { formatShort, t } from "../i18n/index.ts";
import { Avatar } from "../parts/Avatar.tsx";
import { Dialog } from "../parts/Dialog.tsx";
import { Field } from "../parts/Field.tsx";
import { Icon } from "../parts/Icon.tsx";
import { attempt, type Failure, Problem } from "../parts/Problem.tsx";

const close = (): void => {
  dialog.value = null;
};

export function Dialogs() {
  const open = dialog.value;
  const room = current.value;
  switch (open?.kind) {
    case "create":
      return <Create />;
    case "browse":
      return <Browse />;
    case "direct":
      return <Direct />;
    case "keys":
      return <Keys />;
    case "account":
      return <Later key="account" load={() => import("./Account.tsx").then((it) => it.Account)} />;
    case "room":
      return room && <Later key="room" load={() => import("./RoomSettings.tsx").then((it) => it.RoomSettings)} />;
    case "invite":
      return room && <Later key="invite" load={() => import("./RoomSettings.tsx").then((it) => it.Invitations)} />;
    case "jump":
      return room && <Jump />;
    case "revisions":
      return room && <Revisions room={room.id} seq={open.seq} />;
    case "report":
      return room && <ReportIt room={room.id} seq={open.seq} />;
    case undefined:
      return null;
  }
}

function Later({ load }: { load: () => Promise<ComponentType> }) {
  const [It, setIt] = useState<ComponentType | null>(null);
  useEffect(() => {
    void attempt(async () => {
      const found = await load().catch(() => {
        // A newer server no longer has this page's files.
        throw new api.ApiError("offline", "");
      });
      setIt(() => found);
    }).then((well) => !well && close());
  }, []);
  return It && <It />;
}

/** A form's sending: busy while it goes, and what went wrong. */
export function useSubmit(act: () => Promise<void>) {
  const [busy, setBusy] = useState(false);
  const [failed, setFailed] = useState<Failure | null>(null);
  const submit = (event: Event): void => {
    event.preventDefault();
    setBusy(true);
    setFailed(null);
    act()
      .catch((reason: unknown) => setFailed({ reason }))
      .finally(() => setBusy(false));
  };
  return { busy, failed, submit };
}

/** A room's address made of its name, as far as that goes. */
const asId = (name: string): string =>
  name.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().replace(/[^a-z0-9._-]+/g, "-").replace(/^[^a-z0-9]+|-+$/g, "").slice(0, 64);

function Create() {
  const r = t().rooms;
  const [name, setName] = useState("");
  const [id, setId] = useState<string | null>(null);
  const [topic, setTopic] = useState("");
  const [kind, setKind] = useState<"public" | "private">("public");
  const address = id ?? asId(name);
  const { busy, failed, submit } = useSubmit(async () => {
    await createRoom({ id: address, kind, ...(name.trim() && { name: name.trim() }), ...(topic.trim() && { topic: topic.trim() }) });
    close();
  });
  return (
    <Dialog title={r.create} onClose={close}>
      <form onSubmit={submit}>
        <Field label={r.name} value={name} onValue={setName} maxLength={100} autocomplete="off" />
        <Field
          label={r.id}
          hint={r.idRule}
          value={address}
          onValue={setId}
          required
          maxLength={64}
          pattern="[a-z0-9][a-z0-9._\-]*"
          title={r.idRule}
          autocomplete="off"
          autocapitalize="none"
          spellcheck={false}
        />
        <Field label={r.topic} value={topic} onValue={setTopic} maxLength={1000} autocomplete="off" />
        <fieldset class="kinds">
          <legend class="sr">{r.create}</legend>
          {(["public", "private"] as const).map((one) => (
            <label key={one} class={kind === one ? "kind chosen" : "kind"}>
              <input type="radio" name="kind" checked={kind === one} onChange={() => setKind(one)} />
              <span>
                <strong>{one === "public" ? r.public : r.private}</strong>
                <small>{one === "public" ? r.publicHint : r.privateHint}</small>
              </span>
            </label>
          ))}
        </fieldset>
        <Problem of={failed} />
        <div class="buttons">
          <button type="button" onClick={close}>
            {t().cancel}
          </button>
          <button type="submit" class="primary" disabled={busy || !address}>
            {r.make}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

function Browse() {
  const r = t().rooms;
  const [rooms, setRooms] = useState<RoomRecord[] | null>(null);
  const [failed, setFailed] = useState<Failure | null>(null);
  const [query, setQuery] = useState("");
  const load = (): void => {
    setFailed(null);
    api.all<RoomRecord>("rooms", {}, 2_000).then(
      (all) => setRooms(all.filter((one) => one.kind === "public")),
      (reason: unknown) => setFailed({ reason }),
    );
  };
  useEffect(load, []);
  const wanted = query.toLowerCase();
  const found = rooms?.filter((one) => `${one.name ?? ""} ${one.id} ${one.topic ?? ""}`.toLowerCase().includes(wanted));
  const mine = new Set(ownRooms.value.map((one) => one.id));
  return (
    <Dialog title={r.publicRooms} wide onClose={close}>
      <input
        type="search"
        aria-label={r.search}
        placeholder={r.search}
        value={query}
        onInput={(event) => setQuery(event.currentTarget.value)}
      />
      <Problem of={failed} onRetry={load} />
      {rooms === null && !failed && <p class="quiet">{t().loading}</p>}
      {found?.length === 0 && <p class="quiet">{r.noMatch}</p>}
      <ul class="browse">
        {found?.slice(0, 300).map((one) => (
          <li key={one.id}>
            <span class="sign" aria-hidden="true">
              #
            </span>
            <a
              class="about"
              href={roomPath(one.id)}
              onClick={(event) => {
                follow(event);
                close();
              }}
            >
              <strong>{one.name || one.id}</strong>
              <small>{one.topic || one.id}</small>
            </a>
            {mine.has(one.id) ? (
              <span class="quiet">
                <Icon name="check" size={16} /> {r.joined}
              </span>
            ) : (
              <button type="button" onClick={() => void attempt(() => join(one.id)).then((well) => well && close())}>
                {r.join}
              </button>
            )}
          </li>
        ))}
      </ul>
      <div class="buttons">
        <button type="button" onClick={() => (dialog.value = { kind: "create" })}>
          <Icon name="plus" size={18} /> {r.create}
        </button>
      </div>
    </Dialog>
  );
}

function Direct() {
  const r = t().rooms;
  const [user, setUser] = useState("");
  const { busy, failed, submit } = useSubmit(async () => {
    await direct(user.trim());
    close();
  });
  return (
    <Dialog title={r.newDirect} onClose={close}>
      <form onSubmit={submit}>
        <Field label={r.who} value={user} onValue={setUser} required autocomplete="off" autocapitalize="none" spellcheck={false}>
          {user && <Avatar name={user} size="s" />}
        </Field>
        <Problem of={failed} />
        <div class="buttons">
          <button type="button" onClick={close}>
            {t().cancel}
          </button>
          <button type="submit" class="primary" disabled={busy || !user.trim() || user.trim() === me.value?.user.id}>
            {r.start}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

function Jump() {
  const r = t().room;
  const room = current.value;
  const [when, setWhen] = useState("");
  const { busy, failed, submit } = useSubmit(async () => {
    const at = new Date(when);
    const page = await api.get<{ items: { seq: number }[] }>(`rooms/${room?.id}/messages`, { at: at.toISOString(), limit: 1 });
    const seq = page.items[0]?.seq ?? room?.head.value ?? 0;
    close();
    if (room && seq) go(roomPath(room.id, seq));
  });
  return (
    <Dialog title={r.jump} onClose={close}>
      <form onSubmit={submit}>
        <Field label={r.jumpLabel} type="datetime-local" value={when} onValue={setWhen} required />
        <Problem of={failed} />
        <div class="buttons">
          <button type="button" onClick={close}>
            {t().cancel}
          </button>
          <button type="submit" class="primary" disabled={busy || !when}>
            {r.go}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

function Revisions({ room, seq }: { room: string; seq: number }) {
  const m = t().message;
  const [texts, setTexts] = useState<{ text: string; at: string }[] | null>(null);
  const [failed, setFailed] = useState<Failure | null>(null);
  useEffect(() => {
    api.all<{ text: string; at: string }>(`rooms/${room}/messages/${seq}/revisions`).then(setTexts, (reason: unknown) => setFailed({ reason }));
  }, []);
  return (
    <Dialog title={m.revisions} onClose={close}>
      <Problem of={failed} />
      {texts?.length === 0 && <p class="quiet">{m.noRevisions}</p>}
      {texts?.map((one) => (
        <blockquote key={one.at}>
          <small>{formatShort(one.at)}</small>
          <p class="text">{one.text}</p>
        </blockquote>
      ))}
    </Dialog>
  );
}

function ReportIt({ room, seq }: { room: string; seq: number }) {
  const m = t().message;
  const [reason, setReason] = useState("");
  const { busy, failed, submit } = useSubmit(async () => {
    await api.post(`rooms/${room}/messages/${seq}/reports`, { reason: reason.trim() });
    toast(m.reported);
    close();
  });
  return (
    <Dialog title={m.report} onClose={close}>
      <form onSubmit={submit}>
        <Field label={m.reportReason} value={reason} onValue={setReason} required maxLength={1000} autocomplete="off" />
        <Problem of={failed} />
        <div class="buttons">
          <button type="button" onClick={close}>
            {t().cancel}
          </button>
          <button type="submit" class="primary" disabled={busy || !reason.trim()}>
            {m.report}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

function Keys() {
  const k = t().keys;
  const rows: [string, string][] = [
    ["Ctrl K", k.find],
    ["Ctrl Shift F", k.search],
    ["Alt ↑ ↓", k.nextRoom],
    ["Alt Shift ↑ ↓", k.unreadRoom],
    ["↑ ↓", k.messages],
    ["R", k.reply],
    ["E", k.edit],
    ["T", k.thread],
    ["+", k.react],
    ["Delete", k.remove],
    ["↑", k.editLast],
    ["Esc", k.close],
    ["?", k.help],
  ];
  return (
    <Dialog title={k.title} onClose={close}>
      <dl class="keys">
        {rows.map(([key, what]) => (
          <div key={what}>
            <dt>
              {key.split(" ").map((one) => (
                <kbd key={one}>{one}</kbd>
              ))}
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
