// The Worker that checks: pages hand it bytes and get findings. It fetches what is public of the log and nothing else.
import { checkGrowth, checkReceipt, type GrowthAnswer, type GrowthTask, type ReceiptAnswer, type ReceiptTask } from "./checker.ts";
import type { Read } from "./tiles.ts";

export type Task = { kind: "receipt"; task: ReceiptTask } | { kind: "growth"; task: GrowthTask };
export type Answer = ReceiptAnswer | GrowthAnswer;

const LOG = "/ledger/";
const TIMEOUT_MS = 15_000;
const MAX_BYTES = 1 << 20;

function reader(cache: RequestCache): Read {
  return async (path) => {
    const response = await fetch(LOG + path, { cache, credentials: "omit", redirect: "error", signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (response.status === 404) return null;
    if (!response.ok) throw new Error(String(response.status));
    const data = new Uint8Array(await response.arrayBuffer());
    if (data.length > MAX_BYTES) throw new Error("too large");
    return data;
  };
}

const read = reader("default");
const fresh = reader("reload");
const now = reader("no-store");

/** The keys this site names; only asked for at the first visit, when there is nothing to hold them against. */
async function named(): Promise<string[]> {
  const data = await now("log.vkey");
  return data ? new TextDecoder().decode(data).split("\n").filter(Boolean) : [];
}

async function work(message: Task): Promise<Answer> {
  const keys = message.task.keys.length ? message.task.keys : await named();
  if (message.kind === "receipt") return checkReceipt({ ...message.task, keys }, read, fresh);
  return checkGrowth({ ...message.task, keys }, () => now("checkpoint"), read, fresh);
}

self.addEventListener("message", (event: MessageEvent<Task & { id: number }>) => {
  const { id, ...message } = event.data;
  work(message as Task).then(
    (answer) => self.postMessage({ id, answer }),
    (error: unknown) => self.postMessage({ id, error: String(error) }),
  );
});
