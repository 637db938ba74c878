// The keyboard on the trade page: single letters, a sheet that says which, and a switch to have none of them.
import { html, render } from "lit";
import { t } from "../messages";
import { action, type Action } from "./keys";

const OFF = "sunledger-keys-off"; // in the browser's storage

function areOn(): boolean {
  try {
    return localStorage.getItem(OFF) !== "1";
  } catch {
    return true;
  }
}

function setOn(on: boolean): void {
  try {
    if (on) localStorage.removeItem(OFF);
    else localStorage.setItem(OFF, "1");
  } catch {
    // no storage: they stay as they are
  }
}

const rows = (): [string, string][] => [
  ["?", t("this sheet")],
  ["B", t("buy: the ticket")],
  ["S", t("sell: the ticket")],
  ["F", t("freeze the order book, or let it go on")],
  ["L", t("prices of the order book; ↑ ↓ move, Enter fills the ticket and sends nothing")],
  ["I", t("intervals; ↑ ↓ one interval, ← → one hour, Enter shows it")],
  ["O", t("my orders")],
  ["C", t("cancel all my orders; asks once more")],
];

let sheet: HTMLDialogElement | null = null;

function openSheet(): void {
  if (!sheet) {
    sheet = document.createElement("dialog");
    sheet.className = "keys-sheet";
    sheet.setAttribute("aria-labelledby", "keys-title");
    document.body.append(sheet);
  }
  const shown = sheet;
  render(
    html`<h2 id="keys-title">${t("Keyboard")}</h2>
      <table>
        <thead class="quiet"><tr><th scope="col">${t("Key")}</th><th scope="col">${t("What it does")}</th></tr></thead>
        <tbody>${rows().map(([key, what]) => html`<tr><th scope="row"><kbd>${key}</kbd></th><td>${what}</td></tr>`)}</tbody>
      </table>
      <label class="switch"><input type="checkbox" role="switch" .checked=${areOn()} @change=${(event: Event) => setOn((event.target as HTMLInputElement).checked)} /> ${t("Single keys do this")}</label>
      <p class="muted"><small>${t("They never do where you type. Everything works without them.")}</small></p>
      <button type="button" @click=${() => shown.close()}>${t("Close")}</button>`,
    shown,
  );
  if (!shown.open) shown.showModal();
}

/** Put the button for the sheet beside the heading, and listen to keys; `act` does what one stands for. */
export function startShortcuts(act: (wanted: Exclude<Action, "help">) => void): void {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "small";
  button.id = "keys";
  button.textContent = t("Keyboard");
  button.addEventListener("click", openSheet);
  document.querySelector(".keys-place")?.append(button);
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || document.querySelector("dialog[open]")) return;
    const wanted = action(event, event.target instanceof HTMLElement ? event.target : null, areOn());
    if (!wanted) return;
    event.preventDefault();
    if (wanted === "help") openSheet();
    else act(wanted);
  });
}
