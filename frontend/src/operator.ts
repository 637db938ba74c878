// The grid operator's pages: served tables kept up to date, a map that follows the market, and choices that need no second click.
import { store } from "./live";
import { meta } from "./meta";
import { pace } from "./pace.ts";
import { morph } from "./morph.ts";
import { startRefresh } from "./refresh";

const TIMEOUT_MS = 10_000;
const MAP_EVERY_MS = 1_000; // a block is sealed every second while anything happens

for (const form of document.querySelectorAll<HTMLFormElement>("form[data-autosubmit]")) {
  const button = form.querySelector("button");
  if (button) button.hidden = true;
  // With the keyboard a choice changes on the way to the one that is meant: then the button says when (WCAG 3.2.2).
  let typed = false;
  form.addEventListener("pointerdown", () => (typed = false));
  form.addEventListener("keydown", (event) => {
    if (event.key === "Tab") return;
    typed = true;
    if (button) button.hidden = false;
  });
  form.addEventListener("change", () => {
    if (!typed) form.requestSubmit();
  });
}

// Attributes and texts change in place: whoever reads the map with the keyboard or a magnifier stays where they are.
async function follow(map: HTMLElement): Promise<void> {
  if (document.hidden) return;
  try {
    const response = await fetch(map.dataset.part ?? "", {
      credentials: "same-origin",
      redirect: "error",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    if (!response.ok) return;
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    morph(map, fresh.body);
  } catch {
    // the next block will do
  }
}

const map = document.getElementById("grid-map");
if (map && meta.running) {
  const soon = pace(() => follow(map), MAP_EVERY_MS);
  store.watchBlocks(soon);
}

startRefresh();
