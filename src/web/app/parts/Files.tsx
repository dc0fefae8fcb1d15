// The files of a message. Their addresses hold for a while; those of messages that show together are asked for together.
import { type Signal, signal } from "@preact/signals";
import * as api from "../core/api.ts";
import type { StoredFile } from "../core/types.ts";
import { formatBytes, t } from "../i18n/index.ts";
import { Icon } from "./Icon.tsx";

interface Known {
  file: Signal<StoredFile | "gone" | null>;
  until: number;
}

/** Records kept; of more, the oldest go. */
const KNOWN = 2_000;
const ASKED_TOGETHER = 100;
const known = new Map<string, Known>();
const asked = new Map<string, Set<string>>();

async function ask(room: string): Promise<void> {
  const ids = [...(asked.get(room) ?? [])];
  asked.delete(room);
  for (let at = 0; at < ids.length; at += ASKED_TOGETHER) {
    const some = ids.slice(at, at + ASKED_TOGETHER);
    try {
      const { items } = await api.get<{ items: StoredFile[] }>(`rooms/${room}/attachments`, { ids: some.join(",") });
      const found = new Map(items.map((file) => [file.id, file]));
      for (const id of some) {
        const entry = known.get(id);
        if (!entry) continue;
        const file = found.get(id);
        entry.file.value = file ?? "gone";
        entry.until = file ? Date.parse(file.url_expires_at) - 60_000 : Date.now() + 60_000;
      }
    } catch {
      // Asked for again the next time that they show.
      for (const id of some) known.delete(id);
    }
  }
}

function fileOf(room: string, id: string): Signal<StoredFile | "gone" | null> {
  const entry = known.get(id);
  if (entry && entry.until > Date.now()) return entry.file;
  const fresh: Known = { file: entry?.file ?? signal(null), until: Date.now() + 30_000 };
  known.delete(id);
  known.set(id, fresh);
  if (known.size > KNOWN) known.delete(known.keys().next().value ?? "");
  const waiting = asked.get(room);
  if (waiting) waiting.add(id);
  else {
    asked.set(room, new Set([id]));
    queueMicrotask(() => void ask(room));
  }
  return fresh.file;
}

export function Files({ room, ids }: { room: string; ids: readonly string[] }) {
  return (
    <div class="files">
      {ids.map((id) => (
        <One key={id} room={room} id={id} />
      ))}
    </div>
  );
}

function One({ room, id }: { room: string; id: string }) {
  const file = fileOf(room, id).value;
  if (file === "gone") return <span class="file gone">{t().files.gone}</span>;
  if (file === null) return <span class="file waiting">{t().files.loading}</span>;
  const [kind] = file.type.split("/");
  if (kind === "image") {
    return (
      <a class="picture" href={file.url} target="_blank" rel="noopener" aria-label={t().files.picture(file.name)}>
        <img src={file.url} alt={file.name} loading="lazy" decoding="async" />
      </a>
    );
  }
  return (
    <figure class="file-box">
      {kind === "video" && <video src={file.url} controls preload="metadata" />}
      {kind === "audio" && <audio src={file.url} controls preload="none" />}
      <a class="file" href={file.url} target="_blank" rel="noopener" aria-label={t().files.download(file.name)}>
        <Icon name="file" />
        <span>
          <strong>{file.name}</strong>
          <small>{formatBytes(file.bytes)}</small>
        </span>
      </a>
    </figure>
  );
}
