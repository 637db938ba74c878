// A page that keeps itself up to date says when it no longer can: figures that look live and are not would be believed.
import { clock } from "./format";
import { Freshness } from "./freshness";
import { marketNow } from "./meta";
import { t } from "./messages";

const asked = new Freshness(marketNow());

function say(text: string): void {
  let place = document.getElementById("stale");
  if (!place && text) {
    place = document.createElement("p");
    place.id = "stale";
    place.className = "notice warning";
    document.getElementById("main")?.prepend(place);
  }
  if (!place || place.textContent === text) return;
  place.textContent = text;
  place.hidden = !text;
}

function tell(): void {
  const since = asked.staleSince;
  if (asked.signedOut) say(t("You are signed out. Load the page again to sign in."));
  else if (since === null) say("");
  else say(t("What you see is from {time}: the market does not answer. The page keeps asking.", { time: clock(since) }));
}

/** What is shown of all this is what the market says now. */
export function answered(...places: string[]): void {
  for (const place of places) asked.answered(place, marketNow());
  tell();
}

/** There was no answer about this; a page that would have to be signed in to again is one at once. */
export function unanswered(response: Response | null, ...places: string[]): void {
  const signedOut = response !== null && (response.type === "opaqueredirect" || response.status === 403);
  for (const place of places) asked.unanswered(place, signedOut);
  tell();
}
