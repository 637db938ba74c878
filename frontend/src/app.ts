// The shell of every page.
import "./tokens.css";
import "./base.css";
import "./shell.css";
import "./parts.css";
import { install } from "./app-install";
import { startClock } from "./clock";
import { connect } from "./live";
import { meta } from "./meta";
import { sayWhatWasLeft, startShell } from "./shell";

import.meta.glob("./pages/*.css", { eager: true });

// What the ledger did wrong before this visit is said on every page, before anything else.
try {
  if (localStorage.getItem("sunledger.alarms")) void import("./ledger/alarm").then((alarm) => alarm.showAlarm());
} catch {
  // no storage
}

// Where the ledger is looked at, and at home, the browser sees to it that the log goes on from the last visit.
const WATCHED = /^\/(home|statement|regulator|ledger)(\/|$)/;
if (meta.height > 0 && WATCHED.test(window.location.pathname)) {
  const soon = window.requestIdleCallback ?? ((run: () => void) => window.setTimeout(run, 500));
  soon(() => void import("./ledger/guard").then((guard) => guard.guard()));
}

startClock();
sayWhatWasLeft();
window.addEventListener("pageshow", (event) => event.persisted && sayWhatWasLeft()); // by the browser's "back"
install();
if (meta.running) {
  startShell();
  if (document.getElementById("bell")) void import("./bell").then((bell) => bell.startBell());
  connect();
}
