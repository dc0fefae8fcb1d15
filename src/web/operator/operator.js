// The operators' page: asks its node for the overview every two seconds, and shows it. Nothing that the node says becomes HTML.
import { WORDS } from "./words.js";

const EVERY_MS = 2_000;
const PATIENCE_MS = 6_000;
/** Points of a curve: two minutes. */
const POINTS = 60;
const COLOURS = 8;
/** Where other nodes' figures are older than this, heartbeats don't get through. */
const HEARD_LATE_S = 10;
const SVG = "http://www.w3.org/2000/svg";
const LANGUAGE = "roundtable.operator.language";

const id = (name) => document.getElementById(name);
/** The last overview, when it came by this machine's clock, and what is wrong since then. */
let last = null;
let cameAt = 0;
let trouble = null;
let paused = false;
let found = null;
let timer = 0;
let asking = null;
let language = chosen();
/** Curves of the last figures, by name; and which node has which colour, for as long as the page is open. */
const curves = new Map();
const colours = new Map();

// ---- words and numbers ------------------------------------------------------------------------------------------------------

function chosen() {
  let kept = null;
  try {
    kept = localStorage.getItem(LANGUAGE);
  } catch {
    // Storage is switched off: the browser's language then.
  }
  const wanted = [kept, ...navigator.languages].map((tag) => tag?.slice(0, 2).toLowerCase());
  return wanted.find((tag) => Object.hasOwn(WORDS, tag ?? "")) ?? "en";
}

function word(key, values = {}) {
  // What the node says may be newer than this page.
  const text = Object.hasOwn(WORDS[language], key) ? WORDS[language][key] : key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

function number(value, digits = 0) {
  return new Intl.NumberFormat(language, { maximumFractionDigits: digits }).format(value);
}

const rate = (value) => number(value, value < 10 ? 1 : 0);

function milliseconds(value) {
  return `${number(value, value < 10 ? 2 : value < 100 ? 1 : 0)} ms`;
}

function bytes(value) {
  const units = ["B", "kB", "MB", "GB"];
  const power = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(value, 1)) / 3)));
  return `${number(value / 1000 ** power, power === 0 ? 0 : 1)} ${units[power]}`;
}

/** The largest unit that is there, and the next. */
function time(seconds) {
  const parts = [[Math.floor(seconds / 86_400), "d"], [Math.floor(seconds / 3_600) % 24, "h"], [Math.floor(seconds / 60) % 60, "min"], [Math.floor(seconds) % 60, "s"]];
  const first = parts.findIndex(([n]) => n > 0);
  if (first < 0) return word("s", { n: 0 });
  return parts.slice(first, first + 2).filter(([n]) => n > 0).map(([n, unit]) => word(unit, { n })).join(" ");
}

const clock = (at) => new Intl.DateTimeFormat(language, { timeStyle: "medium" }).format(at);

// ---- parts of the page ------------------------------------------------------------------------------------------------------

function make(tag, attributes = {}, ...children) {
  const one = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) one.setAttribute(name, value);
  one.append(...children);
  return one;
}

/** Says it only where it changes, so that a screen reader does. */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function pill(element, state) {
  element.dataset.state = state;
  element.classList.add("pill");
  say(element, word(state));
  return element;
}

function colour(node) {
  if (!colours.has(node)) colours.set(node, `o${colours.size % COLOURS}`);
  return colours.get(node);
}

/** A figure with its name, what more there is to it, and its curve where it has a number. */
function card(name, value, more, point) {
  const one = make("div", { class: "card" }, make("h3", {}, word(name)), make("p", { class: "value", id: `value-${name}` }, value), make("p", { class: "more" }, more));
  if (point === undefined) return one;
  const points = curves.get(name) ?? [];
  const most = Math.max(...points, 1e-9);
  const line = document.createElementNS(SVG, "polyline");
  line.setAttribute("points", points.map((y, x) => `${x + POINTS - points.length},${(29 - (y / most) * 27).toFixed(1)}`).join(" "));
  const svg = document.createElementNS(SVG, "svg");
  for (const [key, to] of [["viewBox", `0 0 ${POINTS - 1} 30`], ["preserveAspectRatio", "none"], ["aria-hidden", "true"]]) svg.setAttribute(key, to);
  svg.append(line);
  one.append(svg);
  return one;
}

function remember(name, value) {
  const points = curves.get(name) ?? [];
  points.push(value ?? 0);
  if (points.length > POINTS) points.shift();
  curves.set(name, points);
}

const column = (text, more = {}) => make("th", { scope: "col", ...more }, text);
const cell = (text, tag = "td") => make(tag, { class: "number" }, text);

// ---- showing it -------------------------------------------------------------------------------------------------------------

function showWords() {
  document.documentElement.lang = language;
  id("language").value = language;
  for (const one of document.querySelectorAll("[data-word]")) say(one, word(one.dataset.word));
  const right = { class: "number" };
  id("nodes-head").replaceChildren(column(word("node")), column(word("state")), ...["sessions", "rooms", "held", "since"].map((key) => column(word(key), right)));
  id("rooms-head").replaceChildren(column(word("room")), column(word("entries"), right), column(word("perSecond"), right));
  showAge();
  showFound();
  if (last) show(last);
}

function showAge() {
  const age = (Date.now() - cameAt) / 1000;
  const when = cameAt ? { time: clock(cameAt), age: time(age) } : null;
  let text = word("live");
  if (!when) text = trouble ? "" : word("connecting");
  else if (paused) text = word("paused", when);
  else if (trouble || age * 1000 > EVERY_MS + PATIENCE_MS) text = word("old", when);
  say(id("age"), text);
  say(id("notice"), trouble ? word(trouble.key, trouble) : "");
  id("figures").classList.toggle("stale", trouble !== null);
}

function show(it) {
  say(id("node"), it.node.id);
  document.title = `${it.node.id} · Roundtable`;
  pill(id("state"), it.node.state);
  const why = it.node.reasons.filter((reason) => reason !== it.node.state).map((reason) => word(reason));
  say(id("about"), [...why, word("about", { version: it.node.version, time: time(it.node.uptime_s) })].join(" · "));
  showLoad(it);
  showNodes(it);
  showShards(it);
  showRooms(it);
  showDrain(it);
  id("figures").hidden = false;
}

function showLoad({ now, rates, commits, checks }) {
  const over = time(Math.round(rates.over_s));
  const latency = (value) => (value === null ? "–" : milliseconds(value));
  const health = (name, check, more) => {
    const one = card(name, "", more);
    one.querySelector(".value").append(pill(make("span"), check.status));
    return one;
  };
  id("cards").replaceChildren(
    card("sessions", number(now.sessions), word("subscriptions", { n: number(now.subscriptions) }), now.sessions),
    card("messages", rate(rates.entries_per_s), word("messagesMore", { n: rate(rates.repeats_per_s) }), rates.entries_per_s),
    card("deliveries", rate(rates.deliveries_per_s), word("deliveriesMore", { n: bytes(rates.outbound_bytes_per_s) }), rates.deliveries_per_s),
    card(
      "commits",
      latency(commits.p99_ms),
      commits.count === 0 ? word("noCommits", { over }) : word("commitsMore", { p50: latency(commits.p50_ms), p95: latency(commits.p95_ms), n: number(commits.count), over }),
      commits.p99_ms,
    ),
    card("connections", rate(rates.connections_per_s), word("connectionsMore", { n: bytes(rates.inbound_bytes_per_s) }), rates.connections_per_s),
    card("rooms", number(now.rooms), word("roomsMore"), now.rooms),
    health("store", checks.store, word("storeMore", { ms: milliseconds(checks.store.latency_ms), n: number(now.commit_queue) })),
    checks.redis
      ? health("redis", checks.redis, word("redisMore", { ms: milliseconds(checks.redis.latency_ms), n: bytes(now.link_queue_bytes) }))
      : card("redis", word("alone"), word("aloneMore")),
  );
}

function showNodes({ node: own, cluster, checks }) {
  const late = cluster.heard_s === null ? "heardNever" : cluster.heard_s > HEARD_LATE_S || !cluster.leased ? "heardOld" : "heard";
  const more = cluster.nodes_left_out > 0 ? ` ${word("more", { n: number(cluster.nodes_left_out) })}` : "";
  say(id("heard"), checks.redis ? word(late, { age: time(cluster.heard_s ?? 0) }) + more : "");
  id("nodes").replaceChildren(
    ...cluster.nodes.map((node) => {
      const name = make("th", { scope: "row" }, make("span", { class: `swatch ${colour(node.id)}`, "aria-hidden": "true" }), make("code", {}, node.id));
      if (node.id === own.id) name.append(` (${word("here")})`);
      const gone = node.state === "lost";
      const row = make("tr", {}, name, make("td", {}, pill(make("span"), node.state)));
      row.append(...[node.sessions, node.rooms].map((n) => cell(gone ? "–" : number(n))), cell(number(node.shards)));
      row.append(cell(gone ? word("gone", { time: time(node.since_s) }) : time(node.since_s)));
      row.dataset.node = node.id;
      return row;
    }),
  );
}

function showShards({ shards: { owners, map } }) {
  const svg = id("map");
  if (svg.children.length !== map.length) {
    svg.setAttribute("viewBox", `0 0 64 ${Math.ceil(map.length / 64)}`);
    svg.replaceChildren(
      ...map.map((_, at) => {
        const rect = document.createElementNS(SVG, "rect");
        for (const [key, to] of [["x", (at % 64) + 0.06], ["y", Math.floor(at / 64) + 0.06], ["width", 0.88], ["height", 0.88]]) rect.setAttribute(key, to);
        rect.append(document.createElementNS(SVG, "title"));
        return rect;
      }),
    );
  }
  const counts = new Map();
  map.forEach((place, at) => {
    const owner = place === null ? null : owners[place];
    counts.set(owner, (counts.get(owner) ?? 0) + 1);
    const rect = svg.children[at];
    rect.setAttribute("class", `${owner === null ? "" : colour(owner)}${found?.shard === at ? " seek" : ""}`);
    say(rect.firstChild, word("shardOf", { shard: at, owner: owner ?? word("nobodyYet") }));
  });
  const shares = [...counts].sort(([, a], [, b]) => b - a).map(([owner, n]) => word(owner === null ? "nobody" : "share", { node: owner, n: number(n) }));
  svg.setAttribute("aria-label", word("map", { n: number(map.length), shares: shares.join(", ") }));
  const free = counts.get(null) ?? 0;
  say(id("map-says"), word("mapHint", { n: number(map.length) }) + (free > 0 ? ` ${word("mapFree", { n: number(free) })}` : ""));
}

function showRooms({ rooms: { over_s, busiest } }) {
  say(id("rooms-say"), busiest.length > 0 ? word("overLast", { over: time(Math.round(over_s)) }) : word("quiet"));
  id("rooms").replaceChildren(
    ...busiest.map(({ room, entries }) =>
      make("tr", { "data-room": room }, make("th", { scope: "row" }, make("code", {}, room)), cell(number(entries)), cell(number(entries / Math.max(over_s, 1), 2))),
    ),
  );
}

function showDrain({ drain, node: own, cluster }) {
  id("drain").hidden = drain !== null || own.state === "draining";
  id("progress").hidden = drain === null;
  if (drain === null) return say(id("drain-says"), word(own.state === "draining" ? "draining" : "drainHint"));
  const done = drain.sessions_left === 0;
  const others = cluster.nodes.some((node) => node.id !== own.id && node.state === "ready");
  const key = !done ? "drainGoes" : drain.shards_left === 0 ? "drainDone" : others ? "drainGoes" : "drainHolds";
  say(id("drain-says"), word(key, { time: time(drain.for_s), n: number(drain.shards_left) }));
  for (const what of ["sessions", "shards"]) {
    const [left, before] = [drain[`${what}_left`], drain[`${what}_before`]];
    say(id(`${what}-left`), word(`${what}Left`, { left: number(left), before: number(before) }));
    Object.assign(id(`${what}-bar`), { max: Math.max(before, 1), value: before === 0 ? 1 : Math.max(before - left, 0) });
  }
}

function showFound() {
  say(id("found"), found ? word(found.key, { room: found.room, shard: found.shard, owner: found.owner ?? word("nobodyYet") }) : "");
}

// ---- asking -----------------------------------------------------------------------------------------------------------------

async function ask() {
  clearTimeout(timer);
  if (paused || document.hidden || asking) return;
  asking = new AbortController();
  const patience = setTimeout(() => asking.abort(), PATIENCE_MS);
  try {
    const answer = await fetch("overview", { signal: asking.signal, cache: "no-store" });
    if (!answer.ok) throw Object.assign(new Error(), { status: answer.status });
    const it = await answer.json();
    [last, cameAt, trouble] = [it, Date.now(), null];
    for (const [name, value] of [
      ["sessions", it.now.sessions], ["messages", it.rates.entries_per_s], ["deliveries", it.rates.deliveries_per_s], ["commits", it.commits.p99_ms], ["connections", it.rates.connections_per_s],
      ["rooms", it.now.rooms],
    ]) remember(name, value);
    show(it);
  } catch (error) {
    trouble = error.status ? { key: "odd", status: error.status } : { key: "noAnswer" };
  } finally {
    clearTimeout(patience);
    asking = null;
  }
  showAge();
  if (!paused && !document.hidden) timer = setTimeout(ask, EVERY_MS);
}

async function find(event) {
  event.preventDefault();
  const room = id("room").value.trim();
  try {
    const answer = await fetch(`cluster?${new URLSearchParams({ room })}`, { signal: AbortSignal.timeout(PATIENCE_MS) });
    found = answer.ok ? { key: "found", ...(await answer.json()) } : { key: answer.status === 400 ? "notRoom" : "notFound" };
  } catch {
    found = { key: "notFound" };
  }
  showFound();
  if (last) showShards(last);
}

function sure() {
  if (!last) return;
  const { node: own, now, cluster } = last;
  const shards = cluster.nodes.find((node) => node.id === own.id)?.shards ?? 0;
  const others = cluster.nodes.some((node) => node.id !== own.id && node.state === "ready");
  const text = word("drainSure", { node: own.id, shards: number(shards), sessions: number(now.sessions) });
  say(id("sure-text"), others ? text : `${text} ${word("drainAlone")}`);
  id("sure").showModal();
}

async function drain() {
  id("sure").close();
  say(id("drain-failed"), "");
  id("drain").disabled = true;
  try {
    const answer = await fetch("drain", { method: "POST", signal: AbortSignal.timeout(PATIENCE_MS) });
    if (!answer.ok) throw new Error(String(answer.status));
    id("drain-says").tabIndex = -1;
    id("drain-says").focus();
  } catch (error) {
    say(id("drain-failed"), word("drainFailed", { status: error.message }));
  }
  id("drain").disabled = false;
  void ask();
}

id("pause").addEventListener("click", () => {
  paused = !paused;
  id("pause").setAttribute("aria-pressed", String(paused));
  showAge();
  void ask();
});
id("language").addEventListener("change", (event) => {
  language = event.target.value;
  try {
    localStorage.setItem(LANGUAGE, language);
  } catch {
    // Then it holds for as long as the page is open.
  }
  showWords();
});
id("find").addEventListener("submit", find);
id("drain").addEventListener("click", sure);
id("keep").addEventListener("click", () => id("sure").close());
id("go").addEventListener("click", drain);
document.addEventListener("visibilitychange", () => void ask());
setInterval(showAge, 1_000);
showWords();
void ask();
