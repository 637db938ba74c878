"""A fast market for the trade page: its socket is replaced in the browser by one that speaks the same protocol.

It says something new about book, ticker and trades so many times a second each, so that the real client, store and elements do
all the work, and it notes what the page did meanwhile: gaps between frames, long tasks, layout shifts, interactions.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from playwright.sync_api import Browser, CDPSession, Page

FRAME_MS: Final = 1_000 / 60
DROPPED_MS: Final = 1.5 * FRAME_MS  # a longer gap between two frames: one was left out

# Installed before any script of the page.
FEED = """
(() => {
  const RATE = %(rate)d;
  window.measured = { gaps: [], tasks: [], shifts: [], events: [], messages: 0 };
  const price = (e4) => (e4 / 10000).toFixed(4);
  const pick = (n) => Math.floor(Math.random() * n);
  class Feed extends EventTarget {
    constructor() {
      super();
      this.readyState = 0;
      this.protocol = "market.v1";
      this.seq = 1000;
      this.channels = new Map();
      setTimeout(() => {
        this.readyState = 1;
        this.onopen?.({});
        const server_time = new Date(window.startMs()).toISOString();
        this.say({ type: "welcome", server_time, heartbeat_ms: 15000, epoch: "feed" });
      });
      this.timer = setInterval(() => this.tick(), 1000 / RATE);
    }
    say(message) { this.onmessage?.({ data: JSON.stringify(message) }); window.measured.messages++; }
    close() { clearInterval(this.timer); }
    send(text) {
      const asked = JSON.parse(text);
      if (asked.type !== "subscribe") { this.channels.delete(asked.channel); return; }
      const [kind, area, ...rest] = asked.channel.split(":");
      const contract = rest.join(":");
      this.channels.set(asked.channel, { kind, area, contract, seq: this.seq });
      this.say({ type: "snapshot", channel: asked.channel, seq: this.seq, data: this.whole(kind, area, contract) });
    }
    levels() {
      const level = (e4) => [price(e4), 50 + pick(3000), price(pick(200))];
      const side = (sign) => Array.from({ length: 25 }, (_, place) => level(2000 + sign * (10 + place * 7)));
      return { bids: side(-1), asks: side(1) };
    }
    line() {
      const bid = 1500 + pick(600);
      return { bid: price(bid), ask: price(bid + 10 + pick(40)), last: price(bid), volume_wh: pick(60000), state: "open" };
    }
    whole(kind, area, contract) {
      if (kind === "book") return { contract, area, ...this.levels() };
      if (kind === "ticker") return { area, contracts: Object.fromEntries(window.names().map((name) => [name, this.line()])) };
      return { items: [] };
    }
    news({ kind, area, contract }) {
      if (kind === "book") {
        const { bids, asks } = this.levels();
        const changed = ([at, wh, fee]) => [at, Math.random() < 0.2 ? 0 : wh, fee];
        const some = (levels) => levels.filter(() => Math.random() < 0.3).map(changed);
        return { contract, area, bids: some(bids), asks: some(asks) };
      }
      if (kind === "ticker") {
        const names = window.names();
        return { area, contracts: Object.fromEntries([0, 1, 2, 3, 4].map(() => [names[pick(names.length)], this.line()])) };
      }
      const at = price(1990 + pick(20));
      const [seq, energy_wh] = [this.seq, 1 + pick(900)];
      const trade = { seq, at: new Date().toISOString(), contract: window.shown(), price: at, energy_wh };
      return kind === "trades" ? { items: [{ ...trade, buy_price: at, sell_price: at }] } : null;
    }
    tick() {
      if (window.quiet) return;
      for (const [channel, found] of this.channels) {
        this.seq++;
        const data = this.news(found);
        if (!data) continue;
        this.say({ type: "delta", channel, prev: found.seq, seq: this.seq, data });
        found.seq = this.seq;
      }
    }
  }
  window.startMs = () => JSON.parse(document.getElementById("page-meta").textContent).now_ms;
  window.names = () => JSON.parse(document.getElementById("trade-data").textContent).strip;
  window.shown = () => document.querySelector("market-strip [aria-current]").dataset.name;
  window.WebSocket = Feed;
  Object.assign(Feed, { CONNECTING: 0, OPEN: 1, CLOSING: 2, CLOSED: 3 });
  window.begin = () => {
    const found = window.measured;
    found.gaps.length = found.tasks.length = found.shifts.length = found.events.length = 0;
    found.messages = 0;
    let before = performance.now();
    const mine = (window.turn = (window.turn ?? 0) + 1);
    const frame = (now) => {
      if (mine !== window.turn) return;
      found.gaps.push(now - before);
      before = now;
      requestAnimationFrame(frame);
    };
    requestAnimationFrame((now) => { before = now; requestAnimationFrame(frame); });
  };
  const watch = (type, keep, more) =>
    new PerformanceObserver((list) => list.getEntries().forEach(keep)).observe({ type, ...more });
  watch("longtask", (entry) => window.measured.tasks.push(entry.duration));
  watch("layout-shift", (entry) => {
    if (entry.hadRecentInput) return;
    const who = entry.sources.map((source) => source.node?.className || source.node?.nodeName).slice(0, 3).join(" ");
    window.measured.shifts.push([entry.value, who]);
  }, { buffered: true });
  const where = (node) => node?.id || node?.className || node?.nodeName;
  const note = (entry) => entry.interactionId && window.measured.events.push([entry.name, entry.duration, where(entry.target)]);
  watch("event", note, { durationThreshold: 16 });
})();
"""


def tasks_ms(browser: Browser, page: Page, seconds: float) -> list[float]:
    """Return the processor time (ms) of each task of the page's thread while it runs for so long, the longest first.

    Processor time, because that is the page's own: how long a task took also tells what else the machine did.
    """
    browser.start_tracing(page=page, categories=["toplevel", "disabled-by-default-devtools.timeline"])
    page.wait_for_timeout(seconds * 1000)
    events = json.loads(browser.stop_tracing())["traceEvents"]
    threads = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    # The timeline's own tasks ("toplevel" notes each once more); one that was cut off has no processor time.
    tasks = [event for event in events if event["name"] == "RunTask" and (event["pid"], event["tid"]) in threads]
    return sorted((event["tdur"] / 1000 for event in tasks if "tdur" in event), reverse=True)


def interactions(page: Page) -> list[tuple[str, Callable[[], object]]]:
    """Return what people do, each with a name, to be done in this order."""
    keyboard = page.keyboard
    return [
        ("freeze", page.locator("#ladder-freeze").click),
        ("go on", page.locator("#ladder-freeze").click),
        ("pick a price", page.locator("market-ladder .pick").nth(3).click),
        ("type energy", lambda: page.locator("#ticket-energy").press("2")),
        ("higher price", page.get_by_role("button", name="Higher price").click),
        ("sell", lambda: page.locator('market-ticket input[value="sell"]').check(force=True)),
        ("leave the ticket", page.locator("h1").click),
        ("to the strip", lambda: keyboard.press("i")),
        ("an hour on", lambda: keyboard.press("ArrowRight")),
        ("to the ladder", lambda: keyboard.press("l")),
        ("a price down", lambda: keyboard.press("ArrowDown")),
        ("price steps", lambda: page.locator("#ladder-step").select_option("10")),
        ("shade by volume", page.get_by_role("button", name="Volume", exact=True).click),
        ("another interval", page.locator("market-strip a.cell").nth(10).click),
    ]


def spent(cdp: CDPSession) -> float:
    """Return the CPU time (s) that the page's thread has spent on tasks."""
    metrics = cdp.send("Performance.getMetrics")["metrics"]
    return float(next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration"))


def stretch(page: Page, cdp: CDPSession, seconds: float) -> dict[str, Any]:
    """Let it run, and return what the page measured, summed up."""
    page.evaluate("window.begin()")
    before = spent(cdp)
    page.wait_for_timeout(seconds * 1000)
    after = spent(cdp)
    found = page.evaluate("window.measured")
    gaps = sorted(found["gaps"])
    return {
        "busy": round((after - before) / seconds, 3),
        "messages_per_s": round(found["messages"] / seconds, 1),
        "frames_per_s": round(len(gaps) / seconds, 1),
        "gap_p99_ms": round(gaps[len(gaps) * 99 // 100], 1),
        "gap_max_ms": round(gaps[-1], 1),
        "frames_dropped": sum(1 for gap in gaps if gap > DROPPED_MS),
        "long_tasks": len(found["tasks"]),
        "longest_task_ms": round(max(found["tasks"], default=0)),
        "layout_shift": round(sum(value for value, _ in found["shifts"]), 4),
        "shifted": sorted({who for _, who in found["shifts"]})[:5],
    }
