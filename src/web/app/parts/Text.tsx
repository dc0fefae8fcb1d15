// A message's text: what looks like an address becomes a link, who is called stands out, what is between backticks is code. It
// is never taken for HTML: all of it goes into the page as text.
import type { ComponentChildren } from "preact";
import { me } from "../core/state.ts";
import { follow } from "../core/route.ts";

const FENCE = /```(?:[\w+-]*\n)?([\s\S]+?)```/g;
const INLINE = /`([^`\n]+)`|(https?:\/\/[^\s<>"'`、。「」()]+)|@([A-Za-z0-9][A-Za-z0-9._-]{0,63})/g;

/** Without what ends a sentence rather than the address. */
function trimmed(url: string): string {
  let end = url.replace(/[.,;:!?]+$/, "");
  while (end.endsWith(")") && !end.includes("(")) end = end.slice(0, -1);
  return end;
}

function isOwn(url: string): boolean {
  return url.startsWith(`${location.origin}/r/`);
}

function inline(text: string, called: readonly string[], all: boolean): ComponentChildren[] {
  const out: ComponentChildren[] = [];
  let from = 0;
  for (const match of text.matchAll(INLINE)) {
    const [whole, code, url, name] = match;
    const at = match.index;
    let end = at + whole.length;
    let node: ComponentChildren = null;
    if (code !== undefined) node = <code>{code}</code>;
    else if (url !== undefined) {
      const href = trimmed(url);
      end = at + href.length;
      node = isOwn(href) ? (
        <a href={href} onClick={follow}>{href}</a>
      ) : (
        <a href={href} target="_blank" rel="noopener noreferrer nofollow">{href}</a>
      );
    } else if (name !== undefined) {
      const who = called.find((one) => name === one || name.startsWith(one)) ?? (all && name === "room" ? "room" : undefined);
      if (who === undefined) continue;
      end = at + 1 + who.length;
      node = <span class={who === me.value?.user.id || who === "room" ? "mention me" : "mention"}>@{who}</span>;
    }
    if (at > from) out.push(text.slice(from, at));
    out.push(node);
    from = end;
  }
  if (from < text.length) out.push(text.slice(from));
  return out;
}

export function Text({ text, mentions, mentionsRoom }: { text: string; mentions: readonly string[]; mentionsRoom: boolean }) {
  const out: ComponentChildren[] = [];
  // The longest first, so that of two ids that begin alike the right one is marked.
  const called = [...mentions].sort((a, b) => b.length - a.length);
  let from = 0;
  for (const match of text.matchAll(FENCE)) {
    if (match.index > from) out.push(...inline(text.slice(from, match.index).replace(/\n$/, ""), called, mentionsRoom));
    out.push(<pre tabIndex={0}>{match[1]?.replace(/\n$/, "")}</pre>);
    from = match.index + match[0].length;
    if (text[from] === "\n") from++;
  }
  out.push(...inline(text.slice(from), called, mentionsRoom));
  // An emoji or a few, alone, are larger.
  const alone = /^(?:\p{Extended_Pictographic}[\p{Emoji_Modifier}\u200d\ufe0f]*){1,3}$/u.test(text.trim());
  return <div class={alone ? "text big" : "text"}>{out}</div>;
}
