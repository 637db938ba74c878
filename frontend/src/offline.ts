// The page without a connection: says since when, tries again by itself, and goes away when the market answers.
const FIRST_S = 3;
const LONGEST_S = 60;
const TIMEOUT_MS = 8000;

const words = JSON.parse(document.getElementById("offline-words")?.textContent ?? "{}") as Record<string, string>;
const since = document.getElementById("since");
const trying = document.getElementById("trying");
let wait = FIRST_S;
let timer = 0;
let busy = false;

function fill(text: string, values: Record<string, string | number>): string {
  return text.replace(/\{(\w+)\}/g, (_whole, name: string) => String(values[name] ?? ""));
}

async function saySince(): Promise<void> {
  const kept = await (await caches.open("state")).match("/offline/reached");
  const at = kept ? ((await kept.json()) as { at: number }).at : 0;
  if (!since) return;
  if (!at) {
    since.textContent = words.unknown;
    return;
  }
  const minutes = Math.floor((Date.now() - at) / 60_000);
  const language = document.documentElement.lang === "en" ? "en-GB" : document.documentElement.lang; // 24 hours, as everywhere
  const time = new Intl.DateTimeFormat(language, { dateStyle: minutes > 720 ? "medium" : undefined, timeStyle: "short" }).format(at);
  since.textContent = fill(minutes ? words.since : words.now, { time, minutes });
}

async function attempt(): Promise<void> {
  if (busy) return;
  busy = true;
  window.clearTimeout(timer);
  if (trying) trying.textContent = words.trying;
  try {
    // Any answer of the market will do: what is wrong with it, the page itself says better.
    await fetch("/healthz", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    window.location.reload();
    return;
  } catch {
    if (trying) trying.textContent = fill(words.waiting, { seconds: wait });
  }
  busy = false;
  timer = window.setTimeout(() => void attempt(), wait * 1000);
  wait = Math.min(LONGEST_S, wait * 2);
  void saySince();
}

document.getElementById("again")?.addEventListener("click", (event) => {
  event.preventDefault();
  wait = FIRST_S;
  void attempt();
});
window.addEventListener("online", () => void attempt());
void saySince().catch(() => undefined);
timer = window.setTimeout(() => void attempt(), FIRST_S * 1000);
