// A room's settings, its record of acts, its invitations.
import { useEffect, useState } from "preact/hooks";
import * as api from "../core/api.ts";
import { gone } from "../core/rooms.ts";
import { current, dialog, type Room, titleOf, toast } from "../core/state.ts";
import type { AuditLine, Invitation, Page, RoomRecord } from "../core/types.ts";
import { formatDuration, formatShort, t } from "../i18n/index.ts";
import { confirm } from "../parts/Confirm.tsx";
import { Dialog } from "../parts/Dialog.tsx";
import { Choice, Field } from "../parts/Field.tsx";
import { attempt, type Failure, Problem } from "../parts/Problem.tsx";
import { useSubmit } from "./Dialogs.tsx";
import { Webhooks } from "./Webhooks.tsx";

const close = (): void => {
  dialog.value = null;
};

const SLOW = [0, 5, 10, 30, 60, 300, 900, 3_600];
const TTL = [0, 3_600, 86_400, 7 * 86_400, 30 * 86_400, 365 * 86_400];

/** The usual ones, and the present one where it is none of them. */
const withNow = (usual: number[], now: number): number[] => [...new Set([...usual, now])].sort((a, b) => a - b);

export function RoomSettings() {
  const room = current.value;
  return room && <Settings room={room} />;
}

function Settings({ room }: { room: Room }) {
  const s = t().settings;
  const now = room.record.value;
  const [name, setName] = useState(now.name ?? "");
  const [topic, setTopic] = useState(now.topic ?? "");
  const [slow, setSlow] = useState(now.slow_mode_s);
  const [ttl, setTtl] = useState(now.ttl_s);
  const [history, setHistory] = useState(now.edit_history);
  const owner = room.role.value === "owner";
  const path = `rooms/${room.id}`;
  const change = async (body: Partial<RoomRecord>): Promise<void> => {
    room.record.value = { ...room.record.peek(), ...(await api.patch<RoomRecord>(path, body)) };
  };
  const { busy, failed, submit } = useSubmit(async () => {
    const wanted = { name: name.trim(), topic: topic.trim(), slow_mode_s: slow, ttl_s: ttl, edit_history: history };
    const given = Object.entries(wanted).filter(([key, value]) => value !== (now[key as keyof RoomRecord] ?? ""));
    if (given.length > 0) await change(Object.fromEntries(given));
    toast(t().saved);
    close();
  });
  return (
    <Dialog title={t().room.settings} wide onClose={close}>
      <form onSubmit={submit}>
        <h3>{s.general}</h3>
        {now.kind !== "direct" && <Field label={t().rooms.name} value={name} onValue={setName} maxLength={100} autocomplete="off" />}
        <Field label={t().rooms.topic} value={topic} onValue={setTopic} maxLength={1000} autocomplete="off" />
        <div class="pair">
          <Choice
            label={s.slowMode}
            value={String(slow)}
            onValue={(value) => setSlow(Number(value))}
            options={withNow(SLOW, now.slow_mode_s).map((one) => [String(one), one === 0 ? s.slowOff : s.every(formatDuration(one))] as const)}
          />
          <Choice
            label={s.ttl}
            value={String(ttl)}
            onValue={(value) => setTtl(Number(value))}
            options={withNow(TTL, now.ttl_s).map((one) => [String(one), one === 0 ? s.ttlNever : s.after(formatDuration(one))] as const)}
          />
        </div>
        <label class="check">
          <input type="checkbox" checked={history} onChange={(event) => setHistory(event.currentTarget.checked)} /> {s.editHistory}
        </label>
        <Problem of={failed} />
        <div class="buttons">
          <button type="submit" class="primary" disabled={busy}>
            {t().save}
          </button>
        </div>
      </form>
      <hr />
      <div class="act">
        <p>{s.archiveHint}</p>
        <button type="button" onClick={() => void attempt(() => change({ archived: !now.archived }), t().saved)}>
          {now.archived ? s.unarchive : s.archive}
        </button>
      </div>
      {owner && (
        <div class="act">
          <p>{s.deleteHint}</p>
          <button
            type="button"
            class="danger"
            onClick={() =>
              confirm({
                title: s.deleteAsk(titleOf(room)),
                hint: s.deleteHint,
                action: s.delete,
                typed: room.id,
                act: async () => {
                  await api.del(path);
                  close();
                  gone(room.id);
                },
              })
            }
          >
            {s.delete}
          </button>
        </div>
      )}
      {owner && <Webhooks room={room} />}
      {owner && <Audit room={room} />}
    </Dialog>
  );
}

function Audit({ room }: { room: Room }) {
  const s = t().settings;
  const [lines, setLines] = useState<AuditLine[] | null>(null);
  const [failed, setFailed] = useState<Failure | null>(null);
  const load = (): void => {
    api.get<Page<AuditLine>>(`rooms/${room.id}/audit`, { limit: 100 }).then(
      (page) => setLines(page.items),
      (reason: unknown) => setFailed({ reason }),
    );
  };
  return (
    <details class="audit" onToggle={(event) => event.currentTarget.open && !lines && load()}>
      <summary>{s.audit}</summary>
      <Problem of={failed} onRetry={load} />
      {lines?.length === 0 && <p class="quiet">{s.auditNone}</p>}
      <ol>
        {lines?.map((line) => (
          <li key={line.no}>
            <small>{formatShort(line.at)}</small> <strong>{line.by}</strong> <code>{line.act}</code> {line.user}{" "}
            {line.seq !== null && `#${line.seq}`} {line.detail}
          </li>
        ))}
      </ol>
    </details>
  );
}

const LASTS: [keyof ReturnType<typeof t>["invite"] & ("hour" | "day" | "week" | "month"), number][] = [
  ["hour", 3_600],
  ["day", 86_400],
  ["week", 7 * 86_400],
  ["month", 30 * 86_400],
];
const USES = [0, 1, 5, 25, 100];

export function Invitations() {
  const i = t().invite;
  const room = current.value;
  const [all, setAll] = useState<Invitation[] | null>(null);
  const [failedToLoad, setFailed] = useState<Failure | null>(null);
  const [lasts, setLasts] = useState(7 * 86_400);
  const [uses, setUses] = useState(0);
  const [link, setLink] = useState("");
  const path = `rooms/${room?.id}/invitations`;
  const load = (): void => {
    api.all<Invitation>(path).then(setAll, (reason: unknown) => setFailed({ reason }));
  };
  useEffect(load, []);
  const { busy, failed, submit } = useSubmit(async () => {
    const made = await api.post<{ token: string }>(path, { expires_in_s: lasts, ...(uses > 0 && { uses }) });
    // Behind the `#`, so that no server, proxy or log sees it.
    setLink(`${location.origin}/join#${encodeURIComponent(made.token)}`);
    load();
  });
  return (
    <Dialog title={i.title} onClose={close}>
      <form onSubmit={submit}>
        <div class="pair">
          <Choice
            label={i.lasts}
            value={String(lasts)}
            onValue={(value) => setLasts(Number(value))}
            options={LASTS.map(([key, seconds]) => [String(seconds), i[key]] as const)}
          />
          <Choice
            label={i.uses}
            value={String(uses)}
            onValue={(value) => setUses(Number(value))}
            options={USES.map((one) => [String(one), one === 0 ? i.any : i.times(one)] as const)}
          />
        </div>
        <Problem of={failed} />
        <div class="buttons">
          <button type="submit" class="primary" disabled={busy}>
            {i.make}
          </button>
        </div>
      </form>
      {link && (
        <Field label={i.link} value={link} onValue={() => {}} readonly>
          <button type="button" onClick={() => void attempt(() => navigator.clipboard.writeText(link), t().copied)}>
            {t().copy}
          </button>
        </Field>
      )}
      <Problem of={failedToLoad} onRetry={load} />
      {all?.length === 0 && <p class="quiet">{i.none}</p>}
      <ul class="people">
        {all?.map((one) => (
          <li key={one.id}>
            <span class="about">
              <strong>{one.made_by}</strong>
              <small>
                {i.until(formatShort(one.expires_at))}, {one.uses_left === null ? i.anyLeft : i.left(one.uses_left)}
              </small>
            </span>
            <button type="button" class="small" onClick={() => void attempt(() => api.del(`${path}/${one.id}`)).then(load)}>
              {i.revoke}
            </button>
          </li>
        ))}
      </ul>
    </Dialog>
  );
}
