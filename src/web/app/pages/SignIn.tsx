// Signing in and up.
import { useState } from "preact/hooks";
import { ApiError, post } from "../core/api.ts";
import { enter } from "../core/session.ts";
import { sessionEnded, ways } from "../core/state.ts";
import { storageWorks } from "../core/storage.ts";
import { choose, catalogues, language, languages, t } from "../i18n/index.ts";
import { Field } from "../parts/Field.tsx";
import { Icon } from "../parts/Icon.tsx";
import { type Failure, Problem } from "../parts/Problem.tsx";

const USER = "[A-Za-z0-9][A-Za-z0-9._\\-]{0,63}";

export function SignIn() {
  const [making, setMaking] = useState(false);
  const [user, setUser] = useState("");
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [shown, setShown] = useState(false);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<Failure | null>(null);
  const [wrong, setWrong] = useState("");
  const s = t().signIn;

  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    setWrong("");
    try {
      if (making) await post("register", { user, password, ...(name.trim() && { name: name.trim() }) });
      else await post("login", { user, password });
      await enter();
    } catch (reason) {
      if (!making && reason instanceof ApiError && reason.code === "unauthenticated") setWrong(s.wrong);
      else if (making && reason instanceof ApiError && reason.code === "conflict") setWrong(s.taken);
      else setError({ reason });
    } finally {
      setBusy(false);
    }
  };

  const { password: byPassword, oidc } = ways.value;
  return (
    <main class="door">
      <div class="card">
        <div class="brand">
          <img src="/icon.svg" alt="" width="52" height="52" />
          <h1>{t().app}</h1>
          <p>{t().tagline}</p>
        </div>
        {sessionEnded.value && <p class="note" role="status">{s.expired}</p>}
        {!storageWorks() && <p class="note" role="status">{s.noStorage}</p>}
        {oidc && (
          <a class="button wide" href={oidc.login}>
            {oidc.label}
          </a>
        )}
        {oidc && byPassword && <p class="or">{s.or}</p>}
        {byPassword && (
          <form onSubmit={(event) => void submit(event)}>
            <h2>{making ? s.register : s.title}</h2>
            <Field
              label={s.user}
              hint={making ? s.userRule : ""}
              value={user}
              onValue={setUser}
              name="username"
              autocomplete="username"
              autocapitalize="none"
              spellcheck={false}
              pattern={making ? USER : ".*"}
              title={making ? s.userRule : ""}
              required
            />
            {making && <Field label={s.displayName} value={name} onValue={setName} name="name" autocomplete="name" maxLength={100} />}
            <Field
              label={s.password}
              hint={making ? s.passwordRule : ""}
              value={password}
              onValue={setPassword}
              name="password"
              type={shown ? "text" : "password"}
              autocomplete={making ? "new-password" : "current-password"}
              required
              {...(making && { minLength: 8, maxLength: 200 })}
            >
              <button type="button" class="ghost small" aria-pressed={shown} onClick={() => setShown(!shown)}>
                {shown ? s.hide : s.show}
              </button>
            </Field>
            {wrong && (
              <div class="problem" role="alert">
                <Icon name="alert" />
                <div>{wrong}</div>
              </div>
            )}
            <Problem of={error} />
            <button type="submit" class="primary wide" disabled={busy}>
              {making ? s.submitRegister : s.submit}
            </button>
            <button
              type="button"
              class="link"
              onClick={() => {
                setMaking(!making);
                setWrong("");
                setError(null);
              }}
            >
              {making ? s.toSignIn : s.toRegister}
            </button>
          </form>
        )}
      </div>
      <nav class="languages" aria-label={t().account.language}>
        {languages.map((one) => (
          <button
            key={one}
            type="button"
            class="link"
            lang={one}
            aria-pressed={one === language.value}
            onClick={() => choose(one)}
          >
            {catalogues[one].name}
          </button>
        ))}
      </nav>
    </main>
  );
}
