// A labelled field of a form.
import { useId } from "preact/hooks";
import type { ComponentChildren } from "preact";

interface Props {
  type?: "text" | "password" | "url" | "datetime-local";
  name?: string;
  title?: string;
  pattern?: string;
  minLength?: number;
  maxLength?: number;
  required?: boolean;
  readonly?: boolean;
  autocomplete?: "on" | "off" | "username" | "name" | "new-password" | "current-password";
  autocapitalize?: "none";
  spellcheck?: boolean;
  label: string;
  hint?: string;
  value: string;
  onValue: (value: string) => void;
  children?: ComponentChildren;
}

export function Field({ label, hint, value, onValue, children, ...rest }: Props) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <div class="control">
        <input
          {...(rest as object)}
          id={id}
          value={value}
          aria-describedby={hint ? `${id}-hint` : undefined}
          onInput={(event) => onValue(event.currentTarget.value)}
        />
        {children}
      </div>
      {hint && (
        <p class="hint" id={`${id}-hint`}>
          {hint}
        </p>
      )}
    </div>
  );
}

interface ChoiceProps {
  label: string;
  value: string;
  options: readonly (readonly [string, string])[];
  disabled?: boolean;
  onValue: (value: string) => void;
}

export function Choice({ label, value, options, disabled = false, onValue }: ChoiceProps) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <select id={id} value={value} disabled={disabled} onChange={(event) => onValue(event.currentTarget.value)}>
        {options.map(([key, text]) => (
          <option key={key} value={key}>
            {text}
          </option>
        ))}
      </select>
    </div>
  );
}
