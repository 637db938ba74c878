// At every visit: does the log go on from what this browser saw last?
import { t } from "../messages";
import { showAlarm } from "./alarm";
import type { Conflict } from "./checker.ts";
import { checkGrowth } from "./client";
import { keep, kept, raise } from "./kept";

/** Keep evidence and show it. */
export function alarm(conflict: Conflict): void {
  raise(conflict);
  showAlarm();
}

function tell(text: string): void {
  const place = document.getElementById("ledger-checked");
  if (!place) return;
  place.textContent = text;
  place.hidden = false;
}

export async function guard(): Promise<void> {
  const before = kept();
  try {
    const answer = await checkGrowth({ kept: before?.note ?? "", keys: before?.keys ?? [], old: before?.old ?? [] });
    if (answer.conflict) alarm(answer.conflict);
    if (answer.state === "first" || answer.state === "same" || answer.state === "grown") {
      keep(answer);
      tell(t("This browser follows {size} entries", { size: answer.size }));
    } else if (answer.state === "unable") {
      tell(t("This browser cannot check signatures"));
    }
    document.dispatchEvent(new Event("sl-kept")); // for the page that shows what is kept
  } catch {
    // No Worker, no answer: nothing was checked, and nothing is claimed.
  }
}
