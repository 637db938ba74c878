// The page's end of the Worker. Loaded, and the Worker started, only when something is to be checked.
import type { GrowthAnswer, GrowthTask, ReceiptAnswer, ReceiptTask } from "./checker.ts";

let worker: Worker | null = null;
let last = 0;
const waiting = new Map<number, { resolve: (answer: never) => void; reject: (error: Error) => void }>();

function start(): Worker {
  if (worker) return worker;
  worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
  worker.addEventListener("message", (event: MessageEvent<{ id: number; answer?: never; error?: string }>) => {
    const { id, answer, error } = event.data;
    const asked = waiting.get(id);
    waiting.delete(id);
    if (error === undefined) asked?.resolve(answer as never);
    else asked?.reject(new Error(error));
  });
  worker.addEventListener("error", () => {
    for (const asked of waiting.values()) asked.reject(new Error("the Worker could not start"));
    waiting.clear();
    worker = null;
  });
  return worker;
}

function ask<T>(message: object): Promise<T> {
  const id = ++last;
  return new Promise<T>((resolve, reject) => {
    waiting.set(id, { resolve, reject });
    start().postMessage({ id, ...message });
  });
}

export function checkReceipt(task: ReceiptTask & { entered: boolean }): Promise<ReceiptAnswer> {
  return ask({ kind: "receipt", task });
}

export function checkGrowth(task: GrowthTask): Promise<GrowthAnswer> {
  return ask({ kind: "growth", task });
}
