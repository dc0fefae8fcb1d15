// What is on the screen: the door, the rooms, or why there is neither.
import { useEffect, useState } from "preact/hooks";
import { ApiError } from "../core/api.ts";
import { openRoom } from "../core/rooms.ts";
import { go, route } from "../core/route.ts";
import { signedOut } from "../core/session.ts";
import { announced, current, dialog, dropToast, listOpen, me, phase, roomsKnown, toasts } from "../core/state.ts";
import { storageWorks } from "../core/storage.ts";
import { t } from "../i18n/index.ts";
import { Confirm } from "../parts/Confirm.tsx";
import { Icon } from "../parts/Icon.tsx";
import { type Failure, Problem } from "../parts/Problem.tsx";
import { Dialogs } from "./Dialogs.tsx";
import { shortcuts } from "./shortcuts.ts";
import { ConnectionBar, RoomView } from "./RoomView.tsx";
import { Sidebar } from "./Sidebar.tsx";
import { SignIn } from "./SignIn.tsx";

export function App() {
  useEffect(() => {
    document.addEventListener("keydown", shortcuts);
    return () => document.removeEventListener("keydown", shortcuts);
  }, []);
  return (
    <>
      <Main />
      <Toasts />
      <Confirm />
      <p class="sr" aria-live="polite">
        {announced.value}
      </p>
    </>
  );
}

function Main() {
  const c = t().closed;
  switch (phase.value) {
    case "starting":
      return <div class="starting" role="status" aria-label={t().loading} />;
    case "away":
      return <Closed title={c.awayTitle} text={c.away} />;
    case "signedOut":
      return <SignIn />;
    case "banned":
      return <Closed title={c.bannedTitle} text={c.banned} />;
    case "revoked":
      return <Closed title={c.revokedTitle} text={c.revoked} action={c.signIn} act={() => signedOut(false)} />;
    case "broken":
      return <Closed title={c.brokenTitle} text={c.broken} action={c.reload} act={() => location.reload()} />;
    case "ready":
      return <Chat />;
  }
}

function Closed({ title, text, action, act }: { title: string; text: string; action?: string; act?: () => void }) {
  return (
    <main class="door">
      <div class="card closed" role="alert">
        <img src="/icon.svg" alt="" width="52" height="52" />
        <h1>{title}</h1>
        <p>{text}</p>
        {action && (
          <button type="button" class="primary wide" onClick={act}>
            {action}
          </button>
        )}
      </div>
    </main>
  );
}

function Chat() {
  const [failed, setFailed] = useState<Failure | null>(null);
  const wanted = route.value.room;
  const room = current.value;
  useEffect(() => {
    setFailed(null);
    if (!wanted) {
      listOpen.value = true;
      return;
    }
    listOpen.value = false;
    openRoom(wanted).catch((reason: unknown) => setFailed({ reason }));
  }, [wanted, me.value]);
  const none = failed?.reason instanceof ApiError && failed.reason.code === "not_found";
  return (
    <div class={listOpen.value || !wanted ? "chat list-open" : "chat"}>
      <Sidebar />
      {room ? (
        <RoomView room={room} />
      ) : (
        <main class="no-room">
          <ConnectionBar />
          <div class="card-free">
            <img src="/icon.svg" alt="" width="64" height="64" />
            {none ? (
              <>
                <h1>{t().rooms.gone}</h1>
                <button type="button" onClick={() => go("/")}>
                  {t().back}
                </button>
              </>
            ) : failed ? (
              <Problem of={failed} />
            ) : wanted ? (
              <p>{t().loading}</p>
            ) : (
              <>
                <h1>{t().rooms.pick}</h1>
                <p>{t().rooms.pickHint}</p>
                {roomsKnown.value && (
                  <div class="buttons centre">
                    <button type="button" class="primary" onClick={() => (dialog.value = { kind: "browse" })}>
                      {t().rooms.browse}
                    </button>
                    <button type="button" onClick={() => (dialog.value = { kind: "create" })}>
                      {t().rooms.create}
                    </button>
                  </div>
                )}
              </>
            )}
            {!storageWorks() && <p class="note">{t().signIn.noStorage}</p>}
          </div>
        </main>
      )}
      <Dialogs />
    </div>
  );
}

function Toasts() {
  return (
    <div class="toasts" aria-live="polite">
      {toasts.value.map((one) => (
        <div key={one.id} class={one.bad ? "toast bad" : "toast"} role={one.bad ? "alert" : "status"}>
          {one.bad && <Icon name="alert" />}
          <div>
            {one.text}
            {one.detail && <p class="detail">{one.detail}</p>}
          </div>
          <button type="button" class="ghost icon-only" aria-label={t().close} onClick={() => dropToast(one.id)}>
            <Icon name="close" size={16} />
          </button>
        </div>
      ))}
    </div>
  );
}
