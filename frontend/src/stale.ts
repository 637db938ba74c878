// A page that keeps itself up to date says when it no longer can: figures that look live and are not would be believed.
import { clock } from "./format";
import { marketNow } from "./meta";
import { t } from "./messages";

const STALE_AFTER = 2; // rounds without an answer until the page says so

let failures = 0;
let answeredAt = clock(marketNow());

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

/** What is shown is what the market says now. */
export function answered(): void {
  failures = 0;
  answeredAt = clock(marketNow());
  say("");
}

/** There was no answer; a page that would have to be signed in to again is one at once. */
export function unanswered(response: Response | null): void {
  failures += 1;
  const signedOut = response !== null && (response.type === "opaqueredirect" || response.status === 403);
  if (signedOut) say(t("You are signed out. Load the page again to sign in."));
  else if (failures >= STALE_AFTER) {
    say(t("What you see is from {time}: the market does not answer. The page keeps asking.", { time: answeredAt }));
  }
}
