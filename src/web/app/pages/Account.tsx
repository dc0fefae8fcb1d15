// One's own account: how the page looks, where one is signed in, what belongs to one.
import { useEffect, useState } from "preact/hooks";
import * as api from "../core/api.ts";
import { notifying, setNotifying } from "../core/notify.ts";
import { signedOut, signOut } from "../core/session.ts";
import { dialog, me, toast } from "../core/state.ts";
import { chooseTheme, type Theme, theme } from "../core/theme.ts";
import type { Login, User } from "../core/types.ts";
import { catalogues, choose, formatAgo, type Language, language, languages, t } from "../i18n/index.ts";
import { confirm } from "../parts/Confirm.tsx";
import { Dialog } from "../parts/Dialog.tsx";
import { Choice, Field } from "../parts/Field.tsx";
import { Icon } from "../parts/Icon.tsx";
import { attempt, type Failure, Problem } from "../parts/Problem.tsx";
import { useSubmit } from "./Dialogs.tsx";
import { Tokens } from "./Tokens.tsx";

const close = (): void => {
  dialog.value = null;
};

export function Account() {
  const a = t().account;
  const user = me.value?.user;
  if (!user) return null;
  return (
    <Dialog title={a.title} wide onClose={close}>
      <Profile user={user} />
      <section>
        <h3>{a.appearance}</h3>
        <div class="pair">
          <Choice
            label={a.theme}
            value={theme.value}
            onValue={(value) => chooseTheme(value as Theme)}
            options={(["system", "light", "dark"] as const).map((one) => [one, a[one]] as const)}
          />
          <Choice
            label={a.language}
            value={language.value}
            onValue={(value) => choose(value as Language)}
            options={languages.map((one) => [one, catalogues[one].name] as const)}
          />
        </div>
      </section>
      <Notifications />
      <section>
        <h3>{a.security}</h3>
        <Sessions />
        {me.value?.by === "login" && <Password />}
        <Tokens />
      </section>
      <section>
        <h3>{a.data}</h3>
        <div class="act">
          <p>{a.exportHint}</p>
          <a class="button" href={api.address("me/export")} download={`roundtable-${user.id}.jsonl`}>
            {a.export}
          </a>
        </div>
        <div class="act">
          <button type="button" onClick={() => void attempt(signOut).then((well) => well && close())}>
            <Icon name="out" size={18} /> {a.signOut}
          </button>
          <button type="button" onClick={() => (dialog.value = { kind: "keys" })}>
            <Icon name="keyboard" size={18} /> {a.shortcuts}
          </button>
          <button
            type="button"
            class="danger"
            onClick={() =>
              confirm({
                title: a.eraseAsk,
                hint: a.eraseHint(user.id),
                action: a.erase,
                typed: user.id,
                act: async () => {
                  await api.del("me");
                  close();
                  signedOut(false);
                },
              })
            }
          >
            {a.erase}
          </button>
        </div>
      </section>
    </Dialog>
  );
}

function Profile({ user }: { user: User }) {
  const a = t().account;
  const [name, setName] = useState(user.name ?? "");
  const { busy, failed, submit } = useSubmit(async () => {
    const { user: now } = await api.patch<{ user: User }>("me", { name: name.trim() });
    if (me.value) me.value = { ...me.value, user: now };
    toast(t().saved);
  });
  return (
    <section>
      <h3>{a.profile}</h3>
      <form onSubmit={submit}>
        <Field label={`${a.displayName} (@${user.id})`} value={name} onValue={setName} maxLength={100} autocomplete="name">
          <button type="submit" disabled={busy || !name.trim() || name.trim() === user.name}>
            {t().save}
          </button>
        </Field>
        <Problem of={failed} />
      </form>
    </section>
  );
}

function Notifications() {
  const a = t().account;
  const missing = !("Notification" in globalThis);
  const [denied, setDenied] = useState(!missing && Notification.permission === "denied");
  return (
    <section>
      <h3>{a.notifications}</h3>
      <label class="check">
        <input
          type="checkbox"
          checked={notifying.value}
          disabled={missing || denied}
          onChange={(event) => {
            const on = event.currentTarget.checked;
            void setNotifying(on).then((may) => on && !may && setDenied(true));
          }}
        />{" "}
        {a.notify}
      </label>
      {(missing || denied) && <p class="hint">{missing ? a.notifyMissing : a.notifyDenied}</p>}
    </section>
  );
}

const BROWSERS: [RegExp, string][] = [[/Edg\//, "Edge"], [/OPR\//, "Opera"], [/Firefox\//, "Firefox"], [/Chrome\//, "Chrome"], [/Safari\//, "Safari"]];
const SYSTEMS: [RegExp, string][] = [
  [/Android/, "Android"], [/iPhone|iPad/, "iOS"], [/Windows/, "Windows"], [/Mac OS X/, "macOS"], [/CrOS/, "ChromeOS"], [/Linux/, "Linux"],
];

/** What a browser calls itself, in words; anything else says its name itself. */
function named(client: string | null): string {
  if (!client) return t().account.unknownClient;
  if (!client.startsWith("Mozilla/")) return client;
  const of = (table: [RegExp, string][]): string | undefined => table.find(([sign]) => sign.test(client))?.[1];
  return [of(BROWSERS), of(SYSTEMS)].filter(Boolean).join(" · ") || client;
}

function Sessions() {
  const a = t().account;
  const [logins, setLogins] = useState<Login[] | null>(null);
  const [failed, setFailed] = useState<Failure | null>(null);
  const load = (): void => {
    setFailed(null);
    api.all<Login>("me/sessions").then(setLogins, (reason: unknown) => setFailed({ reason }));
  };
  useEffect(load, []);
  return (
    <>
      <h4>{a.sessions}</h4>
      <Problem of={failed} onRetry={load} />
      <ul class="people sessions">
        {logins?.map((one) => (
          <li key={one.id}>
            <span class="about">
              <strong>
                <span title={one.client ?? ""}>{named(one.client)}</span> {one.current && <em>{a.current}</em>}
              </strong>
              <small>
                {one.address ?? ""} {a.lastSeen(formatAgo(one.last_seen_at))}
              </small>
            </span>
            {!one.current && (
              <button type="button" class="small" onClick={() => void attempt(() => api.del(`me/sessions/${one.id}`), a.ended).then(load)}>
                {a.end}
              </button>
            )}
          </li>
        ))}
      </ul>
      {logins && logins.length > 1 && (
        <button type="button" onClick={() => void attempt(() => api.del("me/sessions"), a.ended).then(load)}>
          {a.endOthers}
        </button>
      )}
    </>
  );
}

function Password() {
  const a = t().account;
  const [old, setOld] = useState("");
  const [fresh, setFresh] = useState("");
  const { busy, failed, submit } = useSubmit(async () => {
    await api.post("me/password", { old, new: fresh });
    setOld("");
    setFresh("");
    toast(a.passwordChanged);
  });
  return (
    <details>
      <summary>{a.password}</summary>
      <form onSubmit={submit}>
        <input type="text" name="username" autocomplete="username" value={me.value?.user.id} readonly hidden />
        <Field label={a.oldPassword} type="password" value={old} onValue={setOld} autocomplete="current-password" required />
        <Field
          label={a.newPassword}
          hint={t().signIn.passwordRule}
          type="password"
          value={fresh}
          onValue={setFresh}
          autocomplete="new-password"
          minLength={8}
          maxLength={200}
          required
        />
        <Problem of={failed} />
        <div class="buttons">
          <button type="submit" class="primary" disabled={busy}>
            {a.password}
          </button>
        </div>
      </form>
    </details>
  );
}
