// The shell of every page.
import "./tokens.css";
import "./base.css";
import "./shell.css";
import "./parts.css";
import { startClock } from "./clock";

import.meta.glob("./pages/*.css", { eager: true });

startClock();
