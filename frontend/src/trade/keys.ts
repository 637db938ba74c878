// Which key does what on the trade page. Pure.
export type Action = "help" | "buy" | "sell" | "freeze" | "ladder" | "intervals" | "orders" | "cancel";

export const KEYS: Record<string, Action> = {
  "?": "help",
  b: "buy",
  s: "sell",
  f: "freeze",
  l: "ladder",
  i: "intervals",
  o: "orders",
  c: "cancel",
};

export interface Pressed {
  key: string;
  ctrlKey: boolean;
  altKey: boolean;
  metaKey: boolean;
  isComposing: boolean;
  repeat: boolean;
}

const TYPED = new Set(["INPUT", "SELECT", "TEXTAREA"]);

/**
 * What a key stands for; null where somebody types or chooses, where the browser or a screen reader has its own
 * meaning for it, and for all of them once they are switched off (WCAG 2.1.4).
 */
export function action(pressed: Pressed, target: { tagName: string; isContentEditable: boolean } | null, on: boolean): Action | null {
  if (!on || pressed.ctrlKey || pressed.altKey || pressed.metaKey || pressed.isComposing || pressed.repeat) return null;
  if (target && (TYPED.has(target.tagName) || target.isContentEditable)) return null;
  return KEYS[pressed.key.length === 1 ? pressed.key.toLowerCase() : ""] ?? null;
}
