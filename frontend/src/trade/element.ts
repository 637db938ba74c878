// Lit elements without a shadow: the page's styles and its one status region are for them as well.
import { LitElement } from "lit";
import { listen, type Part } from "./state";

export abstract class PageElement extends LitElement {
  /** Parts of the state this element draws. */
  protected abstract readonly parts: Part[];
  private stops: (() => void)[] = [];

  protected override createRenderRoot(): this {
    this.replaceChildren(); // what was served is drawn again, from the same data
    return this;
  }

  /** However often the market speaks, a part is drawn at most once a frame; the first time at once, so that nothing jumps. */
  protected override async scheduleUpdate(): Promise<void> {
    if (this.hasUpdated) {
      // Where nobody looks nothing is drawn: frames do not come there, and without them a busy market would be drawn for nobody.
      await new Promise((resolve) => {
        if (document.hidden) document.addEventListener("visibilitychange", resolve, { once: true });
        else requestAnimationFrame(resolve);
      });
    }
    await super.scheduleUpdate();
  }

  override connectedCallback(): void {
    super.connectedCallback();
    this.stops = this.parts.map((part) => listen(part, () => this.requestUpdate()));
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    for (const stop of this.stops) stop();
  }
}
