// Personal access tokens: what programs of one's own come in by.
import { useEffect, useState } from "preact/hooks";
import * as api from "../core/api.ts";
import type { AccessToken } from "../core/types.ts";
import { formatAgo, formatShort, t } from "../i18n/index.ts";
import { Choice, Field } from "../parts/Field.tsx";
import { attempt, type Failure, Problem } from "../parts/Problem.tsx";
import { useSubmit } from "./Dialogs.tsx";

const SCOPES = ["read", "write", "rooms", "account"] as const;
type Scope = (typeof SCOPES)[number];
const DAY = 86_400;
const LASTS = [7 * DAY, 30 * DAY, 365 * DAY, 0];

export function Tokens() {
  const k = t().tokens;
  const [all, setAll] = useState<AccessToken[] | null>(null);
  const [failedToLoad, setFailed] = useState<Failure | null>(null);
  const [name, setName] = useState("");
  const [scopes, setScopes] = useState<readonly Scope[]>(["read"]);
  const [lasts, setLasts] = useState(30 * DAY);
  const [made, setMade] = useState("");
  const load = (): void => {
    setFailed(null);
    api.all<AccessToken>("me/tokens").then(setAll, (reason: unknown) => setFailed({ reason }));
  };
  const { busy, failed, submit } = useSubmit(async () => {
    const { token } = await api.post<{ token: string }>("me/tokens", { name: name.trim(), scopes, ...(lasts > 0 && { expires_in_s: lasts }) });
    setMade(token);
    setName("");
    load();
  });
  const lives = { [7 * DAY]: t().invite.week, [30 * DAY]: t().invite.month, [365 * DAY]: k.year, 0: k.forever };
  return (
    <details class="tokens" onToggle={(event) => event.currentTarget.open && !all && load()}>
      <summary>{k.title}</summary>
      <p class="hint">{k.hint}</p>
      <form onSubmit={submit}>
        <div class="pair">
          <Field label={k.name} value={name} onValue={setName} maxLength={100} required autocomplete="off" />
          <Choice
            label={t().invite.lasts}
            value={String(lasts)}
            onValue={(value) => setLasts(Number(value))}
            options={LASTS.map((one) => [String(one), lives[one] ?? ""] as const)}
          />
        </div>
        <fieldset class="kinds">
          <legend class="sr">{k.scopes}</legend>
          {SCOPES.map((one) => (
            <label key={one} class="check">
              <input
                type="checkbox"
                checked={scopes.includes(one)}
                onChange={(event) => setScopes(event.currentTarget.checked ? [...scopes, one] : scopes.filter((other) => other !== one))}
              />{" "}
              {k[one]}
            </label>
          ))}
        </fieldset>
        <Problem of={failed} />
        <div class="buttons">
          <button type="submit" class="primary" disabled={busy || scopes.length === 0 || !name.trim()}>
            {k.make}
          </button>
        </div>
      </form>
      {made && <Secret label={k.made} value={made} />}
      <Problem of={failedToLoad} onRetry={load} />
      {all?.length === 0 && <p class="quiet">{k.none}</p>}
      <ul class="people">
        {all?.map((one) => (
          <li key={one.id}>
            <span class="about">
              <strong>{one.name || one.id}</strong>
              <small>
                {one.scopes.join(", ")}
                {one.room && ` (${one.room})`} · {t().account.lastSeen(formatAgo(one.last_seen_at))}
                {one.expires_at && ` · ${t().invite.until(formatShort(one.expires_at))}`}
              </small>
            </span>
            <button type="button" class="small" onClick={() => void attempt(() => api.del(`me/tokens/${one.id}`)).then(load)}>
              {t().invite.revoke}
            </button>
          </li>
        ))}
      </ul>
    </details>
  );
}

/** What is shown this once, to be copied. */
export function Secret({ label, value }: { label: string; value: string }) {
  // It shows below what was pressed for it.
  const [box, setBox] = useState<HTMLDivElement | null>(null);
  useEffect(() => box?.scrollIntoView({ block: "nearest" }), [box, value]);
  return (
    <div ref={setBox}>
      <Field label={label} value={value} onValue={() => {}} readonly>
        <button type="button" onClick={() => void attempt(() => navigator.clipboard.writeText(value), t().copied)}>
          {t().copy}
        </button>
      </Field>
    </div>
  );
}
