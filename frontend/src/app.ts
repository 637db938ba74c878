// The shell of every page.
import "./tokens.css";
import "./base.css";
import "./shell.css";
import "./parts.css";
import { startClock } from "./clock";
import { connect } from "./live";
import { meta } from "./meta";
import { startShell } from "./shell";

import.meta.glob("./pages/*.css", { eager: true });

startClock();
if (meta.running) {
  startShell();
  connect();
}
