// A long list of which only what is in sight is in the page. Rows have the heights that they have: each is measured as it shows
// and when it changes. What the reader looks at stays where it is, whatever is measured, comes or goes above it; who is at the end
// stays at the end.
import type { ComponentChildren, RefObject } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { Heights } from "./heights.ts";

/** Pixels beyond the edges that are in the page too. */
const OVERSCAN = 700;
const GUESS = 48;
/** Nearer than this to the end is at the end. */
const AT_END = 24;
/** Nearer than this to an edge asks for more. */
const NEAR_EDGE = 1_500;

export interface ListHandle {
  /** Brings a row into sight. */
  show(key: string, where: "start" | "center" | "nearest"): boolean;
  toEnd(): void;
  atEnd(): boolean;
  focus(key: string): void;
}

interface Props {
  count: number;
  keyAt: (index: number) => string;
  render: (index: number) => ComponentChildren;
  /** Anything that changes when a row does. */
  version: unknown;
  handle: RefObject<ListHandle | null>;
  label: string;
  busy: boolean;
  before: ComponentChildren;
  after: ComponentChildren;
  onEdge: (edge: "start" | "end") => void;
  onMove: (state: { atEnd: boolean; last: number }) => void;
}

export function VirtualList(props: Props) {
  const box = useRef<HTMLDivElement>(null);
  const rows = useRef<HTMLDivElement>(null);
  const inner = useRef<HTMLDivElement>(null);
  const heights = useMemo(() => new Heights(GUESS), []);
  const range = useRef({ first: 0, end: 0 });
  const [, redraw] = useState(0);
  const stuck = useRef(true);
  const anchor = useRef({ key: "", index: 0, offset: 0 });
  /** Where the window was when the anchor was taken: what it has moved since then is the reader's doing. */
  const lastTop = useRef(0);
  const wantFocus = useRef<string | null>(null);
  const head = useRef(0);
  const live = useRef(props);
  live.current = props;

  if (heights.count !== props.count || heights.key(0) !== (props.count ? props.keyAt(0) : undefined) || props.version) {
    heights.follow(props.count, props.keyAt);
    // What came or went before moves the numbers of all others: the same rows stay in the page.
    const now = heights.find(anchor.current.key, anchor.current.index);
    const by = now - anchor.current.index;
    if (now >= 0 && by !== 0) {
      anchor.current.index = now;
      range.current = { first: Math.max(0, range.current.first + by), end: Math.min(heights.count, range.current.end + by) };
    }
  }

  /** Where the rows begin below the top of what is scrolled. */
  const above = (): number => head.current;

  const wanted = (): { first: number; end: number } => {
    const element = box.current;
    if (!element || heights.count === 0) return { first: 0, end: 0 };
    const top = element.scrollTop - above();
    const first = heights.at(Math.max(0, top - OVERSCAN));
    const end = heights.at(Math.max(0, top + element.clientHeight + OVERSCAN)) + 1;
    return { first, end: Math.min(heights.count, end) };
  };

  const fit = (): void => {
    const next = wanted();
    if (range.current.first === next.first && range.current.end === next.end) return;
    range.current = next;
    redraw((n) => n + 1);
  };

  const remember = (): void => {
    const element = box.current;
    if (!element || heights.count === 0) return;
    const top = element.scrollTop - above();
    const first = heights.at(Math.max(0, top));
    let index = first;
    // Held on to is the first row that is whole in sight and was measured: what is above it may still turn out otherwise. The very
    // first row does, when earlier ones come before it.
    for (let at = first, y = heights.top(first); at < heights.count && y < top + element.clientHeight; y += heights.size(at++)) {
      if (at > 0 && y >= top && heights.isKnown(at)) {
        index = at;
        break;
      }
    }
    anchor.current = { key: heights.key(index) ?? "", index, offset: top - heights.top(index) };
    lastTop.current = element.scrollTop;
  };

  /** Notes where the reader went since. To be asked before anything of ours moves the window: a list that becomes shorter does. */
  const follow = (): void => {
    const element = box.current;
    if (!element) return;
    const moved = element.scrollTop - lastTop.current;
    // Scrolled, and not told of it yet.
    if (moved < -AT_END) stuck.current = false;
    anchor.current.offset += moved;
    lastTop.current = element.scrollTop;
  };

  /** Puts what the reader looks at back to where it was. */
  const settle = (): void => {
    const element = box.current;
    if (!element) return;
    if (stuck.current) {
      element.scrollTop = element.scrollHeight;
      remember();
      return;
    }
    const { key, index, offset } = anchor.current;
    const now = heights.find(key, index);
    // What was looked at is gone.
    if (now < 0) {
      remember();
      return;
    }
    anchor.current.index = now;
    const top = heights.top(now) + offset + above();
    if (Math.abs(element.scrollTop - top) < 1) return;
    element.scrollTop = top;
    lastTop.current = element.scrollTop;
    // At an edge the window can't go as far.
    anchor.current.offset += element.scrollTop - top;
  };

  const tell = (): void => {
    const element = box.current;
    if (!element) return;
    const { scrollTop, clientHeight, scrollHeight } = element;
    const last = heights.count ? heights.at(Math.max(0, scrollTop + clientHeight - above() - 1)) : -1;
    live.current.onMove({ atEnd: stuck.current, last });
    if (scrollTop < NEAR_EDGE) live.current.onEdge("start");
    if (scrollHeight - scrollTop - clientHeight < NEAR_EDGE) live.current.onEdge("end");
  };

  const onScroll = (): void => {
    const element = box.current;
    if (!element) return;
    stuck.current = element.scrollHeight - element.scrollTop - element.clientHeight <= AT_END;
    remember();
    fit();
    tell();
  };

  // The rows' own heights, as the browser finds them.
  const sizes = useMemo(
    () =>
      new ResizeObserver((seen) => {
        let news = false;
        for (const { target, borderBoxSize } of seen) {
          const index = Number((target as HTMLElement).dataset["index"]);
          if (!target.isConnected || (target as HTMLElement).dataset["key"] !== heights.key(index)) continue;
          const size = borderBoxSize[0]?.blockSize ?? 0;
          if (size > 0 && heights.measured(index, size)) news = true;
        }
        if (news) redraw((n) => n + 1);
      }),
    [],
  );
  useEffect(() => () => sizes.disconnect(), []);

  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return;
    const seen = new ResizeObserver(() => {
      settle();
      fit();
      tell();
    });
    seen.observe(element);
    return () => seen.disconnect();
  }, []);

  // After each drawing: the heights may have changed, rows may have come above.
  useLayoutEffect(() => {
    const list = rows.current;
    if (!list || !inner.current) return;
    follow();
    head.current = list.offsetTop;
    // Measured before anything is painted: rows that were guessed until now must not be seen where the guess put them.
    for (const row of inner.current.children) {
      heights.measured(Number((row as HTMLElement).dataset["index"]), row.getBoundingClientRect().height);
      sizes.observe(row);
    }
    list.style.height = `${heights.total}px`;
    inner.current.style.transform = `translateY(${heights.top(range.current.first)}px)`;
    settle();
    fit();
    const key = wantFocus.current;
    if (key !== null) {
      const row = [...inner.current.children].find((one) => (one as HTMLElement).dataset["key"] === key);
      const target = row?.querySelector<HTMLElement>("[data-focus]");
      if (target) {
        wantFocus.current = null;
        target.focus({ preventScroll: true });
      }
    }
  });

  // What is near an edge is asked for also when nobody scrolls: the first page may not fill the window.
  useEffect(tell, [props.version, props.busy]);

  props.handle.current = {
    show(key, where) {
      const element = box.current;
      const index = heights.find(key, anchor.current.index);
      if (!element || index < 0) return false;
      const [top, size, room] = [heights.top(index), heights.size(index), element.clientHeight];
      const now = element.scrollTop - above();
      if (where === "nearest" && top >= now && top + size <= now + room) return true;
      const gap = where === "center" ? (room - size) / 3 : where === "start" ? 48 : top < now ? 8 : room - size - 8;
      stuck.current = false;
      anchor.current = { key, index, offset: -gap };
      settle();
      // The window may not reach that far up or down.
      remember();
      fit();
      return true;
    },
    toEnd() {
      stuck.current = true;
      settle();
      fit();
      redraw((n) => n + 1);
    },
    atEnd: () => stuck.current,
    focus(key) {
      wantFocus.current = key;
      redraw((n) => n + 1);
    },
  };

  const { first } = range.current;
  const end = Math.min(range.current.end, props.count);
  const drawn = [];
  for (let index = first; index < end; index++) {
    drawn.push(
      <div key={props.keyAt(index)} data-index={index} data-key={props.keyAt(index)} class="row">
        {props.render(index)}
      </div>,
    );
  }
  return (
    <div class="scroller" ref={box} onScroll={onScroll}>
      {props.before}
      <div class="rows" ref={rows} role="feed" aria-label={props.label} aria-busy={props.busy}>
        <div class="drawn" ref={inner}>
          {drawn}
        </div>
      </div>
      {props.after}
    </div>
  );
}
