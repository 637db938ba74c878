// The account page: the switch that has an account's orders signed in this browser.
import { call, Problem } from "./api";
import { t } from "./messages";
import { forgetKey, holds, makeKey, type Signing } from "./signing";

const PATH = "/api/v1/me/signing";

const card = document.querySelector<HTMLElement>("[data-signing]");
const state = card?.querySelector<HTMLElement>("[data-signing-state]");
const on = card?.querySelector<HTMLButtonElement>("[data-signing-on]");
const off = card?.querySelector<HTMLButtonElement>("[data-signing-off]");

async function show(known: Signing): Promise<void> {
  if (!state || !on || !off) return;
  const mine = await holds(known);
  if (known.public_key === "") state.textContent = t("Off: orders are accepted without a signature.");
  else if (mine) state.textContent = t("On: this browser signs your orders.");
  else state.textContent = t("On, with a key in another browser or program. Orders from here are refused.");
  on.hidden = known.public_key !== "";
  off.hidden = known.public_key === "";
}

async function change(act: () => Promise<Signing>): Promise<void> {
  if (!state || !on || !off) return;
  on.disabled = off.disabled = true;
  try {
    await show(await act());
  } catch (error) {
    state.textContent = error instanceof Problem ? error.message : t("This browser cannot make such a key.");
  } finally {
    on.disabled = off.disabled = false;
  }
}

async function switchOn(): Promise<Signing> {
  const known = await call<Signing>("GET", PATH);
  return call<Signing>("POST", PATH, await makeKey(known.account_id));
}

async function switchOff(): Promise<Signing> {
  const known = await call<Signing>("DELETE", PATH);
  await forgetKey(known.account_id);
  return known;
}

if (card) {
  on?.addEventListener("click", () => void change(switchOn));
  off?.addEventListener("click", () => void change(switchOff));
  void change(() => call<Signing>("GET", PATH));
}
