// The front page: its figures grow while one looks at them.
import { startRefresh } from "./refresh";

startRefresh();
