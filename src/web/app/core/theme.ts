// Light, dark, or as the system is.
import { effect, signal } from "@preact/signals";
import { keep, kept } from "./storage.ts";

export type Theme = "system" | "light" | "dark";
const asTheme = (text: string | null): Theme => (text === "light" || text === "dark" ? text : "system");

export const theme = signal<Theme>(asTheme(kept("theme")));

effect(() => {
  document.documentElement.dataset["theme"] = theme.value;
});

export function chooseTheme(next: Theme): void {
  theme.value = next;
  keep("theme", next === "system" ? null : next);
}
