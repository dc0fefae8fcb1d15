// A room's webhooks: addresses that are told what is said in it.
import { useState } from "preact/hooks";
import * as api from "../core/api.ts";
import type { Room } from "../core/state.ts";
import type { Webhook } from "../core/types.ts";
import { formatShort, t } from "../i18n/index.ts";
import { confirm } from "../parts/Confirm.tsx";
import { Field } from "../parts/Field.tsx";
import { attempt, type Failure, Problem } from "../parts/Problem.tsx";
import { useSubmit } from "./Dialogs.tsx";
import { Secret } from "./Tokens.tsx";

export function Webhooks({ room }: { room: Room }) {
  const w = t().webhooks;
  const path = `rooms/${room.id}/webhooks`;
  const [all, setAll] = useState<Webhook[] | null>(null);
  const [failedToLoad, setFailed] = useState<Failure | null>(null);
  const [url, setUrl] = useState("");
  const [secret, setSecret] = useState("");
  const load = (): void => {
    setFailed(null);
    api.all<Webhook>(path).then(setAll, (reason: unknown) => setFailed({ reason }));
  };
  const { busy, failed, submit } = useSubmit(async () => {
    setSecret((await api.post<Webhook>(path, { url: url.trim() })).secret ?? "");
    setUrl("");
    load();
  });
  return (
    <details class="hooks" onToggle={(event) => event.currentTarget.open && !all && load()}>
      <summary>{w.title}</summary>
      <p class="hint">{w.hint}</p>
      <form onSubmit={submit}>
        <Field label={w.url} type="url" value={url} onValue={setUrl} required maxLength={2000} autocomplete="off" spellcheck={false}>
          <button type="submit" disabled={busy || !url.trim()}>
            {w.make}
          </button>
        </Field>
        <Problem of={failed} />
      </form>
      {secret && <Secret label={w.secret} value={secret} />}
      <Problem of={failedToLoad} onRetry={load} />
      {all?.length === 0 && <p class="quiet">{w.none}</p>}
      <ul class="people">
        {all?.map((one) => (
          <li key={one.id}>
            <span class="about">
              <strong>{one.url}</strong>
              <small>
                {one.made_by}, {formatShort(one.made_at)} · {one.active ? w.on : one.off_reason ? w.offBecause(one.off_reason) : w.off}
              </small>
            </span>
            <button
              type="button"
              class="small"
              onClick={() => void attempt(() => api.patch(`${path}/${one.id}`, { active: !one.active }), t().saved).then(load)}
            >
              {one.active ? w.turnOff : w.turnOn}
            </button>
            <button
              type="button"
              class="small danger"
              onClick={() =>
                confirm({
                  title: w.removeAsk,
                  hint: one.url,
                  action: w.remove,
                  act: async () => {
                    await api.del(`${path}/${one.id}`);
                    load();
                  },
                })
              }
            >
              {w.remove}
            </button>
          </li>
        ))}
      </ul>
    </details>
  );
}
