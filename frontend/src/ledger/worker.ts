// The Worker that checks: pages hand it bytes and get findings. It fetches what is public of the log and nothing else.
import { checkGrowth, checkReceipt, type GrowthAnswer, type GrowthTask, type ReceiptAnswer, type ReceiptTask } from "./checker.ts";
import { followKeys, type Keys } from "./keyring.ts";
import type { Read } from "./tiles.ts";

export type Task = { kind: "receipt"; task: ReceiptTask & { entered: boolean } } | { kind: "growth"; task: GrowthTask };
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

/** The lines of a public file, [] where there is none; null when the site did not answer, which says nothing. */
async function linesOf(path: string): Promise<string[] | null> {
  let data: Uint8Array | null;
  try {
    data = await now(path);
  } catch {
    return null;
  }
  return data ? new TextDecoder().decode(data).split("\n").filter(Boolean) : [];
}

/** The keys to believe: at the first visit those this site names, later those that the known ones have approved of. */
async function keysNow(believed: Keys, named: string[]): Promise<Keys> {
  try {
    return await followKeys(believed, named);
  } catch {
    return believed; // what cannot be read brings no key in
  }
}

async function work(message: Task): Promise<Answer> {
  // Keys that a person entered are taken as they are; nothing this site says is added to them.
  if (message.kind === "receipt" && message.task.entered) return checkReceipt(message.task, read, fresh);
  const named = await linesOf("keys");
  const unread = named === null;
  const { valid, old } = await keysNow({ valid: message.task.keys, old: message.task.old }, named ?? []);
  if (message.kind === "growth") {
    return checkGrowth({ ...message.task, keys: valid, old, unread }, named ?? [], () => now("checkpoint"), read, fresh);
  }
  return checkReceipt({ ...message.task, keys: [...valid, ...((await linesOf("witnesses")) ?? [])], old, unread }, read, fresh);
}

self.addEventListener("message", (event: MessageEvent<Task & { id: number }>) => {
  const { id, ...message } = event.data;
  work(message as Task).then(
    (answer) => self.postMessage({ id, answer }),
    (error: unknown) => self.postMessage({ id, error: String(error) }),
  );
});
