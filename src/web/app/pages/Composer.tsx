// Where one writes. What is being composed by an input method is never sent: Enter then belongs to the method.
import { useSignal } from "@preact/signals";
import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { edit, send, typing } from "../core/actions.ts";
import * as api from "../core/api.ts";
import { explain } from "../core/explain.ts";
import { newId } from "../core/live.ts";
import { canModerate, me, type Room, titleOf, toast } from "../core/state.ts";
import { formatPercent, t } from "../i18n/index.ts";
import { Avatar } from "../parts/Avatar.tsx";
import { Emoji } from "../parts/Emoji.tsx";
import { Icon } from "../parts/Icon.tsx";
import { attempt } from "../parts/Problem.tsx";
import type { Item } from "../timeline/log.ts";

/** The protocol's bound on a text. */
const LONGEST = 4_000;
const FILES = 10;
const SUGGESTED = 6;
/** `@` and the beginning of an id, where a word begins: as the server reads it. */
const CALL = /(?:^|[\s([{<"'`\u1100-\u11ff\u2e80-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef])@([A-Za-z0-9._-]{0,64})$/;

interface Attached {
  id: string;
  file: File;
  preview: string | null;
  progress: number;
  done: string | null;
  error: unknown;
  upload: api.Upload | null;
}

export interface ComposerHandle {
  focus(): void;
  insert(text: string): void;
  add(files: Iterable<File>): void;
}

interface Props {
  room: Room;
  /** What is written answers this one. */
  replyTo: Item | null;
  editing: Item | null;
  /** The thread that it is in: answers go there. */
  thread?: number;
  handle: { current: ComposerHandle | null };
  onDone: () => void;
  onEditLast: () => void;
}

export function Composer({ room, replyTo, editing, thread, handle, onDone, onEditLast }: Props) {
  const c = t().composer;
  const field = useRef<HTMLTextAreaElement>(null);
  const picker = useRef<HTMLInputElement>(null);
  const attached = useSignal<readonly Attached[]>([]);
  const over = useSignal(0);
  const blank = useSignal(true);
  const call = useSignal<{ from: number; text: string } | null>(null);
  const chosen = useSignal(0);
  const [emojiAt, setEmojiAt] = useState<HTMLElement | null>(null);
  // The id of the message to come: files are uploaded for it before it is sent.
  const next = useRef(newId());
  const sendWhenUploaded = useSignal(false);
  const listId = useMemo(() => `suggestions-${newId()}`, []);

  const fit = (): void => {
    const element = field.current;
    if (!element) return;
    element.style.height = "auto";
    element.style.height = `${element.scrollHeight}px`;
  };
  const look = (): void => {
    const element = field.current;
    if (!element) return;
    fit();
    over.value = [...element.value].length - LONGEST;
    blank.value = element.value.trim() === "";
    const before = element.value.slice(0, element.selectionStart);
    const match = CALL.exec(before);
    call.value = match ? { from: before.length - (match[1]?.length ?? 0), text: match[1] ?? "" } : null;
    chosen.value = 0;
  };
  const fill = (text: string): void => {
    if (!field.current) return;
    field.current.value = text;
    look();
  };

  // Before anything else can be typed: a letter that came first would be of the text that goes.
  // Another room, another draft. Threads have none.
  useLayoutEffect(() => {
    fill(thread === undefined ? room.draft : "");
    if (matchMedia("(hover: hover)").matches) field.current?.focus();
    return () => {
      if (thread === undefined && !editingNow.current) room.draft = field.current?.value ?? "";
      for (const one of attached.peek()) drop(one);
      attached.value = [];
    };
  }, [room]);
  const editingNow = useRef(false);
  useLayoutEffect(() => {
    if (editing) {
      if (!editingNow.current) room.draft = field.current?.value ?? "";
      fill(editing.text);
      field.current?.focus();
    } else if (editingNow.current) fill(room.draft);
    editingNow.current = editing !== null;
  }, [editing]);
  useLayoutEffect(() => {
    if (replyTo) field.current?.focus();
  }, [replyTo]);

  // ---- files ----

  const change = (id: string, what: Partial<Attached>): void => {
    attached.value = attached.peek().map((one) => (one.id === id ? { ...one, ...what } : one));
  };
  const drop = (one: Attached): void => {
    one.upload?.abort();
    if (one.preview) URL.revokeObjectURL(one.preview);
  };
  const begin = (one: Attached): void => {
    const upload = api.upload(room.id, next.current, one.id, one.file, (progress) => change(one.id, { progress }));
    change(one.id, { upload, error: null, progress: 0 });
    upload.done.then(
      ({ id }) => {
        change(one.id, { done: id, upload: null, progress: 1 });
        if (sendWhenUploaded.peek() && attached.peek().every((each) => each.done)) submit();
      },
      (error: unknown) => {
        sendWhenUploaded.value = false;
        change(one.id, { error, upload: null });
      },
    );
  };
  const add = (files: Iterable<File>): void => {
    for (const file of files) {
      if (attached.peek().length >= FILES) {
        toast(c.tooMany, "", true);
        break;
      }
      if (file.size === 0) {
        toast(c.emptyFile(file.name), "", true);
        continue;
      }
      const preview = file.type.startsWith("image/") ? URL.createObjectURL(file) : null;
      const one: Attached = { id: newId(), file, preview, progress: 0, done: null, error: null, upload: null };
      attached.value = [...attached.peek(), one];
      begin(one);
    }
    field.current?.focus();
  };

  // ---- sending ----

  const submit = (): void => {
    const element = field.current;
    if (!element) return;
    const text = element.value.replace(/\s+$/, "");
    if (over.peek() > 0) return;
    if (editing) {
      if (text.trim() === "" || text === editing.text) onDone();
      else void attempt(() => edit(room, editing.seq, text)).then((well) => well && onDone());
      return;
    }
    const files = attached.peek();
    if (text.trim() === "" && files.length === 0) return;
    if (files.some((one) => one.error)) return;
    if (files.some((one) => !one.done)) {
      sendWhenUploaded.value = true;
      return;
    }
    sendWhenUploaded.value = false;
    // A message has a text; one of files alone says their names.
    const said = text.trim() === "" ? files.map((one) => one.file.name).join(", ").slice(0, LONGEST) : text;
    send(room, next.current, said, replyTo?.seq ?? thread ?? null, files.map((one) => one.done ?? ""));
    next.current = newId();
    for (const one of files) if (one.preview) URL.revokeObjectURL(one.preview);
    attached.value = [];
    typing(room, false);
    fill("");
    onDone();
  };

  // ---- completion ----

  const suggested = useMemo(() => {
    if (!call.value) return [];
    const wanted = call.value.text.toLowerCase();
    const people = (room.members.value ?? []).map((one) => one.user).filter((one) => one !== me.value?.user.id);
    const begins = people.filter((one) => one.toLowerCase().startsWith(wanted));
    const holds = people.filter((one) => !one.toLowerCase().startsWith(wanted) && one.toLowerCase().includes(wanted));
    const all = canModerate(room) && "room".startsWith(wanted) ? ["room"] : [];
    return [...begins, ...holds].slice(0, SUGGESTED).concat(all);
  }, [call.value, room.members.value, room]);
  const complete = (who: string): void => {
    const element = field.current;
    if (!element || !call.value) return;
    const end = call.value.from + call.value.text.length;
    element.setRangeText(`${who} `, call.value.from, end, "end");
    look();
    call.value = null;
    element.focus();
  };

  const onKey = (event: KeyboardEvent): void => {
    // Enter, arrows and Escape are the input method's while it composes (keyCode 229: browsers that say it only so).
    if (event.isComposing || event.keyCode === 229) return;
    const listed = suggested.length > 0;
    if (listed && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      chosen.value = (chosen.value + (event.key === "ArrowDown" ? 1 : suggested.length - 1)) % suggested.length;
    } else if (listed && (event.key === "Enter" || event.key === "Tab") && !event.shiftKey) {
      complete(suggested[chosen.value] ?? "");
    } else if (event.key === "Enter" && !event.shiftKey && !event.altKey && !event.ctrlKey && !event.metaKey) {
      submit();
    } else if (event.key === "Escape") {
      if (listed) call.value = null;
      else if (editing || replyTo) onDone();
      else return;
    } else if (event.key === "ArrowUp" && field.current?.value === "" && !editing && thread === undefined) {
      onEditLast();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  };

  handle.current = {
    focus: () => field.current?.focus(),
    insert: (text) => {
      field.current?.setRangeText(text, field.current.selectionStart, field.current.selectionEnd, "end");
      look();
      field.current?.focus();
    },
    add,
  };

  const busy = attached.value.some((one) => !one.done && !one.error);
  const ready = over.value <= 0 && (!blank.value || attached.value.length > 0);
  const label = thread === undefined ? c.placeholder(titleOf(room)) : t().message.reply;
  return (
    <div class="composer">
      {(replyTo || editing) && (
        <div class="context">
          <Icon name={editing ? "edit" : "reply"} size={16} />
          <span>
            <strong>{editing ? t().message.editing : t().message.replyingTo(replyTo?.user ?? "")}</strong>{" "}
            {!editing && replyTo?.text.slice(0, 120)}
          </span>
          <button type="button" class="ghost icon-only" aria-label={t().cancel} onClick={onDone}>
            <Icon name="close" size={16} />
          </button>
        </div>
      )}
      {suggested.length > 0 && (
        <ul class="suggestions" id={listId} role="listbox" aria-label={c.suggestions}>
          {suggested.map((who, index) => (
            <li
              key={who}
              id={`${listId}-${index}`}
              role="option"
              aria-selected={index === chosen.value}
              onMouseDown={(event) => {
                event.preventDefault();
                complete(who);
              }}
            >
              <Avatar name={who} size="s" /> <strong>{who}</strong> {who === "room" && <small>{c.everybody}</small>}
            </li>
          ))}
        </ul>
      )}
      {attached.value.length > 0 && (
        <ul class="attached">
          {attached.value.map((one) => (
            <li key={one.id} class={one.error ? "failed" : ""}>
              {one.preview ? <img src={one.preview} alt="" /> : <Icon name="file" />}
              <span class="about">
                <strong>{one.file.name}</strong>
                {one.error ? (
                  <small role="alert">
                    {explain(one.error).what} {explain(one.error).next} {explain(one.error).detail}
                  </small>
                ) : (
                  !one.done && <small>{c.uploading(formatPercent(one.progress))}</small>
                )}
                {!one.done && !one.error && <progress max={1} value={one.progress} aria-label={c.uploading(formatPercent(one.progress))} />}
              </span>
              {one.error !== null && (
                <button type="button" class="small" onClick={() => begin(one)}>
                  {t().retry}
                </button>
              )}
              <button
                type="button"
                class="ghost icon-only"
                aria-label={c.remove(one.file.name)}
                onClick={() => {
                  drop(one);
                  attached.value = attached.peek().filter((each) => each.id !== one.id);
                }}
              >
                <Icon name="close" size={16} />
              </button>
            </li>
          ))}
        </ul>
      )}
      <div class="line">
        {!editing && (
          <button type="button" class="ghost icon-only" aria-label={c.attach} title={c.attach} onClick={() => picker.current?.click()}>
            <Icon name="clip" />
          </button>
        )}
        <input
          ref={picker}
          type="file"
          multiple
          hidden
          onChange={(event) => {
            add(event.currentTarget.files ?? []);
            event.currentTarget.value = "";
          }}
        />
        <textarea
          ref={field}
          rows={1}
          aria-label={label}
          placeholder={label}
          title={c.hint}
          aria-autocomplete="list"
          aria-controls={suggested.length > 0 ? listId : undefined}
          aria-activedescendant={suggested.length > 0 ? `${listId}-${chosen.value}` : undefined}
          onInput={() => {
            look();
            if (!editing && !blank.peek()) typing(room, true);
          }}
          onKeyDown={onKey}
          onBlur={() => typing(room, false)}
          onPaste={(event) => {
            const files = [...(event.clipboardData?.files ?? [])];
            if (files.length === 0) return;
            event.preventDefault();
            add(files);
          }}
        />
        <button
          type="button"
          class="ghost icon-only"
          aria-label={c.emoji}
          title={c.emoji}
          onClick={(event) => setEmojiAt(event.currentTarget)}
        >
          <Icon name="smile" />
        </button>
        <button
          type="button"
          class="primary icon-only"
          aria-label={editing ? t().save : c.send}
          title={editing ? t().save : c.send}
          disabled={!ready || (busy && sendWhenUploaded.value)}
          onClick={submit}
        >
          <Icon name={editing ? "check" : "send"} />
        </button>
      </div>
      {over.value > 0 && (
        <p class="too-long" role="alert">
          {c.tooLong(over.value)}
        </p>
      )}
      {emojiAt && <Emoji anchor={emojiAt} onClose={() => setEmojiAt(null)} onPick={(emoji) => handle.current?.insert(emoji)} />}
    </div>
  );
}
