// Counts in words: the platform knows which form a number takes in a language.

type Forms = Partial<Record<Intl.LDMLPluralRule, string>> & { other: string };

/** Gives a function that chooses the form for a count and puts the number in the place of `#`. */
export function counted(language: string): (count: number, forms: Forms) => string {
  const rules = new Intl.PluralRules(language);
  const digits = new Intl.NumberFormat(language);
  return (count, forms) => (forms[rules.select(count)] ?? forms.other).replace("#", digits.format(count));
}
