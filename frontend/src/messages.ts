// The words of scripts. A message is its English text, as in gettext; the page carries the translations of its language.
import { pageData } from "./meta";

const catalogue = pageData<Record<string, string>>("page-messages") ?? {};

/** Translate; `{name}` in the text takes the value of that name. Texts are listed in market/pages/messages.py. */
export function t(text: string, values: Record<string, string | number> = {}): string {
  return (catalogue[text] || text).replace(/\{(\w+)\}/g, (whole, name: string) =>
    name in values ? String(values[name]) : whole,
  );
}
