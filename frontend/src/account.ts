// The account page: the switch that has an account's orders signed in this browser.
import { call, Problem } from "./api";
import { t } from "./messages";
import { forgetKey, letGo, makeKey, standing, type Signing } from "./signing";

const PATH = "/api/v1/me/signing";

const card = document.querySelector<HTMLElement>("[data-signing]");
const state = card?.querySelector<HTMLElement>("[data-signing-state]");
const on = card?.querySelector<HTMLButtonElement>("[data-signing-on]");
const off = card?.querySelector<HTMLButtonElement>("[data-signing-off]");
const lost = card?.querySelector<HTMLButtonElement>("[data-signing-lost]");
const forget = card?.querySelector<HTMLButtonElement>("[data-signing-forget]");
const buttons = [on, off, lost, forget];

async function show(known: Signing): Promise<void> {
  if (!card || !state || !on || !off || !lost || !forget) return;
  const where = await standing(known);
  const texts = {
    off: t("Off: orders are accepted without a signature."),
    mine: t("On: this browser signs your orders."),
    elsewhere: t("On, with a key in another browser or program. Orders from here are refused."),
    replaced:
      known.public_key === ""
        ? t("Attention: this browser holds your key, but the market accepts orders without a signature. Who switched that off? The ledger says when and why. Nothing is sent from here until you decide.")
        : t("Attention: this browser holds your key, but the market names another one. Who changed it? The ledger says when and why. Nothing is sent from here until you decide."),
  };
  state.textContent = texts[where];
  for (const name of ["notice", "error"]) state.classList.toggle(name, where === "replaced");
  on.hidden = where !== "off";
  off.hidden = where !== "mine";
  lost.hidden = known.public_key === "" || where === "mine";
  forget.hidden = where !== "replaced";
}

async function change(act: () => Promise<Signing>): Promise<void> {
  if (!state) return;
  for (const button of buttons) if (button) button.disabled = true;
  try {
    await show(await act());
  } catch (error) {
    if (error instanceof Problem && error.code === "reauthentication_required") {
      location.assign(`/account/security/again?next=${encodeURIComponent(location.pathname)}`);
      return;
    }
    state.textContent = error instanceof Problem ? error.message : t("This browser cannot make such a key.");
  } finally {
    for (const button of buttons) if (button) button.disabled = false;
  }
}

const ask = (): Promise<Signing> => call<Signing>("GET", PATH);

async function switchOn(): Promise<Signing> {
  return call<Signing>("POST", PATH, await makeKey(await ask()));
}

/** The key signs that it goes, so that nobody has to believe the market. */
async function switchOff(): Promise<Signing> {
  const known = await call<Signing>("DELETE", `${PATH}?approval=${await letGo(await ask())}`);
  await forgetKey(known.account_id);
  return known;
}

/** The key is not here: the ledger keeps that it was reset. */
function reset(): Promise<Signing> {
  return call<Signing>("DELETE", `${PATH}?reset=lost_device`);
}

async function forgetMine(): Promise<Signing> {
  const known = await ask();
  await forgetKey(known.account_id);
  return known;
}

if (card) {
  on?.addEventListener("click", () => void change(switchOn));
  off?.addEventListener("click", () => void change(switchOff));
  lost?.addEventListener("click", () => void change(reset));
  forget?.addEventListener("click", () => void change(forgetMine));
  void change(ask);
}
