// Pages for everybody: figures grow while one looks at them, and the market page's prices come by the public streams.
import { energy, priceE4, unitPrice } from "./format";
import { connect, store } from "./live";
import { meta } from "./meta";
import { startRefresh } from "./refresh";
import type { Block, Log, Ticker, TickerLine } from "./store";

function put(place: Element | null, text: string): void {
  if (place && place.textContent !== text) place.textContent = text;
}

function quote(text: string | null): string {
  return text === null ? "–" : unitPrice(priceE4(text));
}

function show(part: Element, line: TickerLine): void {
  put(part.querySelector('[data-quote="bid"]'), quote(line.bid));
  put(part.querySelector('[data-quote="ask"]'), quote(line.ask));
  put(part.querySelector('[data-quote="last"]'), quote(line.last));
  put(part.querySelector('[data-quote="volume"]'), energy(line.volume_wh));
}

const now = document.getElementById("board-now");
if (now?.dataset.area && meta.running) {
  store.watch<Ticker>(`ticker:${now.dataset.area}`, (ticker) => {
    for (const part of document.querySelectorAll<HTMLElement>(".board [data-contract]")) {
      const line = ticker?.contracts[part.dataset.contract ?? ""];
      if (line) show(part, line);
    }
  });
  store.watch<Log<Block>>("blocks", (log) => {
    const block = log?.items.at(-1);
    if (!block) return;
    put(document.getElementById("board-height"), String(block.height));
    put(document.getElementById("board-entries"), block.size.toLocaleString(document.documentElement.lang));
  });
  connect();
}

startRefresh();
