// Emoji to choose from: a few that are often wanted, and a field for any other (every system brings a picker for it).
import { useState } from "preact/hooks";
import { t } from "../i18n/index.ts";
import { Popover } from "./Popover.tsx";

const OFTEN = [
  "👍", "❤️", "😂", "🎉", "🙏", "👀", "✅", "🚀",
  "😊", "😍", "🤔", "😅", "😭", "😮", "😎", "🥳",
  "👏", "🙌", "💪", "🤝", "👌", "✌️", "👋", "🫶",
  "🔥", "⭐", "💡", "📌", "⚠️", "❌", "❓", "💯",
  "☕", "🍻", "🎂", "🌸", "🌱", "🌈", "🐛", "🎯",
];
/** The protocol's bound on an emoji. */
const LONGEST = 32;

export const quick = OFTEN.slice(0, 4);

export function Emoji({ anchor, onPick, onClose }: { anchor: HTMLElement; onPick: (emoji: string) => void; onClose: () => void }) {
  const [own, setOwn] = useState("");
  const pick = (emoji: string): void => {
    onPick(emoji);
    onClose();
  };
  return (
    <Popover anchor={anchor} label={t().composer.emoji} role="dialog" onClose={onClose}>
      <div class="emoji">
        {OFTEN.map((one) => (
          <button key={one} type="button" onClick={() => pick(one)}>
            {one}
          </button>
        ))}
      </div>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          const text = own.trim();
          if (text && [...text].length <= LONGEST) pick(text);
        }}
      >
        <input
          aria-label={t().composer.emoji}
          placeholder="😀 …"
          value={own}
          onInput={(event) => setOwn(event.currentTarget.value)}
        />
      </form>
    </Popover>
  );
}
