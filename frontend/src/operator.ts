// The grid operator's pages: served tables kept up to date, and a choice that needs no second click.
import { startRefresh } from "./refresh";

for (const form of document.querySelectorAll<HTMLFormElement>("form[data-autosubmit]")) {
  const button = form.querySelector("button");
  if (button) button.hidden = true;
  form.addEventListener("change", () => form.requestSubmit());
}

startRefresh();
