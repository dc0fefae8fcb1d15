// What opens beside a button: a menu, the emoji. The browser keeps it on top and closes it at a click elsewhere or Escape.
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";

interface Props {
  /** The button that it belongs to. */
  anchor: HTMLElement;
  label: string;
  role: "menu" | "dialog";
  onClose: () => void;
  children: ComponentChildren;
}

const GAP = 6;

export function Popover({ anchor, label, role, onClose, children }: Props) {
  const element = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    const box = element.current;
    if (!box) return;
    box.showPopover();
    const [near, size] = [anchor.getBoundingClientRect(), box.getBoundingClientRect()];
    const below = near.bottom + GAP + size.height <= innerHeight;
    const top = below ? near.bottom + GAP : Math.max(GAP, near.top - GAP - size.height);
    const left = Math.min(Math.max(GAP, near.right - size.width), innerWidth - size.width - GAP);
    box.style.top = `${top}px`;
    box.style.left = `${Math.max(GAP, left)}px`;
    box.querySelector<HTMLElement>("button, input")?.focus();
  }, []);

  const onKey = (event: KeyboardEvent): void => {
    const items = [...(element.current?.querySelectorAll<HTMLElement>("button") ?? [])];
    const at = items.indexOf(document.activeElement as HTMLElement);
    const columns = role === "menu" ? 1 : 8;
    const step = { ArrowDown: columns, ArrowUp: -columns, ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Tab" && role === "menu") onClose();
    else if (step !== undefined && at >= 0) {
      event.preventDefault();
      items[(at + step + items.length) % items.length]?.focus();
    }
    // What is under it has keys of its own.
    event.stopPropagation();
  };

  return (
    <div
      ref={element}
      popover="auto"
      class={`popover ${role}`}
      role={role}
      aria-label={label}
      onKeyDown={onKey}
      onToggle={(event) => {
        if (event.newState === "closed") {
          onClose();
          if (document.activeElement === document.body) anchor.focus();
        }
      }}
    >
      {children}
    </div>
  );
}

export function MenuItem({ children, danger = false, onPick }: { children: ComponentChildren; danger?: boolean; onPick: () => void }) {
  return (
    <button type="button" role="menuitem" class={danger ? "danger" : ""} onClick={onPick}>
      {children}
    </button>
  );
}
