// Asks before what can't be undone.
import { signal } from "@preact/signals";
import { useState } from "preact/hooks";
import { t } from "../i18n/index.ts";
import { Dialog } from "./Dialog.tsx";
import { type Failure, Problem } from "./Problem.tsx";

interface Question {
  title: string;
  hint: string;
  action: string;
  /** What has to be typed first. */
  typed?: string;
  act: () => Promise<void>;
}

const question = signal<Question | null>(null);

export function confirm(next: Question): void {
  question.value = next;
}

export function Confirm() {
  const asked = question.value;
  return asked && <Ask key={asked.title} asked={asked} />;
}

function Ask({ asked }: { asked: Question }) {
  const [error, setError] = useState<Failure | null>(null);
  const [busy, setBusy] = useState(false);
  const [text, setText] = useState("");
  const close = (): void => {
    question.value = null;
  };
  const act = async (): Promise<void> => {
    setBusy(true);
    try {
      await asked.act();
      close();
    } catch (reason) {
      setError({ reason });
      setBusy(false);
    }
  };
  return (
    <Dialog title={asked.title} onClose={close}>
      <p>{asked.hint}</p>
      {asked.typed !== undefined && (
        <input
          type="text"
          aria-label={asked.hint}
          autocomplete="off"
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
        />
      )}
      <Problem of={error} />
      <div class="buttons">
        <button type="button" onClick={close}>
          {t().cancel}
        </button>
        <button
          type="button"
          class="danger"
          disabled={busy || (asked.typed !== undefined && text !== asked.typed)}
          onClick={() => void act()}
        >
          {asked.action}
        </button>
      </div>
    </Dialog>
  );
}
