// The language of the page: the reader's choice, else the first of the browser's that there is a catalogue of. One more
// language is one more file and one more line here.
import { computed, effect, signal } from "@preact/signals";
import { keep, kept } from "../core/storage.ts";
import { type Catalogue, en } from "./en.ts";
import { ja } from "./ja.ts";

export const catalogues = { en, ja } satisfies Record<string, Catalogue>;
export type Language = keyof typeof catalogues;
export const languages = Object.keys(catalogues) as Language[];

const isLanguage = (text: string | null | undefined): text is Language => !!text && Object.hasOwn(catalogues, text);

function preferred(): Language {
  const chosen = kept("language");
  if (isLanguage(chosen)) return chosen;
  return navigator.languages.map((tag) => tag.split("-")[0]).find(isLanguage) ?? "en";
}

export const language = signal<Language>(preferred());
const catalogue = computed<Catalogue>(() => catalogues[language.value]);

effect(() => {
  document.documentElement.lang = language.value;
});

export function choose(next: Language): void {
  language.value = next;
  keep("language", next);
}

/** The catalogue now; read in a component, the component follows the language. */
export const t = (): Catalogue => catalogue.value;

const formats = computed(() => {
  const tag = navigator.languages.find((one) => one.split("-")[0] === language.value) ?? language.value;
  return {
    time: new Intl.DateTimeFormat(tag, { hour: "numeric", minute: "2-digit" }),
    day: new Intl.DateTimeFormat(tag, { weekday: "long", month: "long", day: "numeric" }),
    dayYear: new Intl.DateTimeFormat(tag, { weekday: "long", year: "numeric", month: "long", day: "numeric" }),
    full: new Intl.DateTimeFormat(tag, { dateStyle: "long", timeStyle: "medium" }),
    short: new Intl.DateTimeFormat(tag, { dateStyle: "medium", timeStyle: "short" }),
    relative: new Intl.RelativeTimeFormat(tag, { numeric: "auto" }),
    people: new Intl.ListFormat(tag, { type: "conjunction" }),
    percent: new Intl.NumberFormat(tag, { style: "percent" }),
    number: new Intl.NumberFormat(tag),
    tag,
  };
});

export const formatTime = (at: string): string => formats.value.time.format(new Date(at));
export const formatFull = (at: string): string => formats.value.full.format(new Date(at));
export const formatShort = (at: string): string => formats.value.short.format(new Date(at));
export const formatPeople = (people: string[]): string => formats.value.people.format(people);
export const formatPercent = (part: number): string => formats.value.percent.format(part);
export const formatNumber = (number: number): string => formats.value.number.format(number);

/** Which day a time is of, here; days are compared by it. */
export function dayOf(at: string): number {
  const date = new Date(at);
  return new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();
}

/** A day as people say it. */
export function formatDay(at: string): string {
  const now = new Date();
  const ago = Math.round((dayOf(now.toISOString()) - dayOf(at)) / 86_400_000);
  if (ago === 0) return t().room.today;
  if (ago === 1) return t().room.yesterday;
  const date = new Date(at);
  const format = date.getFullYear() === now.getFullYear() ? formats.value.day : formats.value.dayYear;
  return format.format(date);
}

/** How long ago, roughly. */
export function formatAgo(at: string): string {
  const seconds = Math.round((new Date(at).getTime() - Date.now()) / 1000);
  const steps: [Intl.RelativeTimeFormatUnit, number][] = [["day", 86_400], ["hour", 3_600], ["minute", 60]];
  for (const [unit, size] of steps) {
    if (Math.abs(seconds) >= size) return formats.value.relative.format(Math.round(seconds / size), unit);
  }
  return formats.value.relative.format(0, "second");
}

/** A length of time in its largest whole unit. */
export function formatDuration(seconds: number): string {
  const units: [string, number][] = [["day", 86_400], ["hour", 3_600], ["minute", 60], ["second", 1]];
  const [unit, size] = units.find(([, one]) => seconds >= one && seconds % one === 0) ?? ["second", 1];
  return new Intl.NumberFormat(formats.value.tag, { style: "unit", unit, unitDisplay: "long" }).format(seconds / size);
}

/** Bytes as people read them. */
export function formatBytes(bytes: number): string {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte"];
  let [size, at] = [bytes, 0];
  while (size >= 1000 && at < units.length - 1) [size, at] = [size / 1000, at + 1];
  return new Intl.NumberFormat(formats.value.tag, {
    style: "unit",
    unit: units[at] ?? "byte",
    unitDisplay: at === 0 ? "long" : "short",
    maximumFractionDigits: size < 10 && at > 0 ? 1 : 0,
  }).format(size);
}
