// A person's or room's sign: their letter on a colour of their own.

const HUES = 12;

export function hueOf(name: string): number {
  let hash = 2166136261;
  for (let at = 0; at < name.length; at++) hash = Math.imul(hash ^ name.charCodeAt(at), 16777619);
  return (hash >>> 0) % HUES;
}

export function Avatar({ name, size = "m", online = false }: { name: string; size?: "s" | "m" | "l"; online?: boolean }) {
  const letters = [...name.replace(/^[^\p{L}\p{N}]+/u, "")];
  return (
    <span class={`avatar ${size} hue${hueOf(name)}`} aria-hidden="true">
      {(letters[0] ?? "?").toUpperCase()}
      {online && <i class="dot" />}
    </span>
  );
}
