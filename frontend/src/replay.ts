// The book as it stood: a slider over the entries, steps, keys. Without this script the form and the links do the same.
import { t } from "./messages";
import { announce } from "./status";

const SETTLE_MS = 150; // after the slider has come to rest; the server rebuilds a book for each stop
const AGAIN_MS = 1000;
const TIMEOUT_MS = 25_000;

class Replay {
  private timer = 0;
  private asked: AbortController | null = null;

  constructor(
    private readonly moment: HTMLElement,
    private readonly form: HTMLFormElement,
    private readonly slider: HTMLInputElement,
    private readonly number: HTMLInputElement,
  ) {
    slider.addEventListener("input", () => this.slide());
    slider.addEventListener("keydown", (event) => this.key(event));
    moment.addEventListener("click", (event) => this.click(event));
    window.addEventListener("popstate", () => void this.show(window.location.href, false));
    this.comeAgain();
  }

  private slide(): void {
    this.number.value = this.slider.value;
    window.clearTimeout(this.timer);
    this.timer = window.setTimeout(() => void this.show(this.address(), true), SETTLE_MS);
  }

  private key(event: KeyboardEvent): void {
    const rel = event.key === "PageUp" ? "next" : event.key === "PageDown" ? "prev" : "";
    const link = rel && this.moment.querySelector<HTMLAnchorElement>(`.entry-steps a[rel="${rel}"]`);
    if (!link) return;
    event.preventDefault();
    void this.show(link.href, true);
  }

  private click(event: MouseEvent): void {
    const link = (event.target as Element).closest<HTMLAnchorElement>(".entry-steps a");
    if (!link || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const label = link.textContent;
    void this.show(link.href, true).then(() => {
      // The link is a new one now: the keyboard stays where it was, or as near as there is.
      const links = Array.from(this.moment.querySelectorAll<HTMLAnchorElement>(".entry-steps a"));
      (links.find((one) => one.textContent === label) ?? links[0])?.focus();
    });
  }

  private address(): string {
    const url = new URL(this.form.action);
    for (const [name, value] of new FormData(this.form)) url.searchParams.set(name, String(value));
    return url.href;
  }

  private async show(address: string, moves: boolean): Promise<void> {
    window.clearTimeout(this.timer);
    this.asked?.abort();
    const asked = (this.asked = new AbortController());
    this.moment.setAttribute("aria-busy", "true");
    try {
      const signal = AbortSignal.any([asked.signal, AbortSignal.timeout(TIMEOUT_MS)]);
      const response = await fetch(address, { credentials: "same-origin", redirect: "error", signal });
      if (!response.ok) throw new Error(String(response.status));
      const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
      const moment = fresh.getElementById("moment");
      const slider = fresh.querySelector<HTMLInputElement>("#book-slider");
      if (!moment || !slider) throw new Error("another page");
      this.moment.replaceChildren(...Array.from(moment.childNodes));
      this.moment.toggleAttribute("data-again", moment.hasAttribute("data-again"));
      this.slider.max = slider.max;
      this.slider.value = this.number.value = slider.getAttribute("value") ?? "";
      if (moves) window.history.replaceState(null, "", address);
      announce(t("The book after entry {seq}.", { seq: this.number.value }));
      this.comeAgain();
    } catch {
      if (!asked.signal.aborted) announce(t("The book could not be shown. Try again."));
    } finally {
      if (this.asked === asked) this.moment.removeAttribute("aria-busy");
    }
  }

  /** While the entries up to there are being replayed, ask again. */
  private comeAgain(): void {
    if (this.moment.hasAttribute("data-again")) this.timer = window.setTimeout(() => void this.show(window.location.href, false), AGAIN_MS);
  }
}

/** Bring the slider to life, where there is one. */
export function startReplay(): void {
  const moment = document.getElementById("moment");
  const form = document.getElementById("replay") as HTMLFormElement | null;
  const slider = document.getElementById("book-slider") as HTMLInputElement | null;
  const number = document.getElementById("book-seq") as HTMLInputElement | null;
  if (moment && form && slider && number) new Replay(moment, form, slider, number);
}
