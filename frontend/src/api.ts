// REST calls of the signed-in person: session, CSRF token, idempotency key, problem+json.
import { interval, money, moneyE7 } from "./format";
import { meta } from "./meta";
import { t } from "./messages";

const TIMEOUT_MS = 15_000;
const EXACT_MONEY = /\b\d{1,9}\.\d{7}\b/g; // programs want every digit of an amount, people do not
const CONTRACT = /\b\d{4}-\d\d-\d\dT\d\d:\d\dZ/g; // and they know intervals by the market's clock

/** What the server refused, with the code and the field it concerns; `field` is "" when none does. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    readonly field: string,
    detail: string,
  ) {
    super(detail);
  }
}

/** A sentence of the API as people read it. */
export function plain(sentence: string): string {
  return sentence.replace(EXACT_MONEY, (digits) => money(moneyE7(digits))).replace(CONTRACT, interval);
}

function csrfToken(): string {
  return document.querySelector<HTMLMetaElement>('meta[name="csrf-token"]')?.content ?? "";
}

/** A key for one intention of the person: a repeated send of the same one is answered, not executed again. */
export function newKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Whether this browser may hold a key that signs orders. Without a storage there is none. */
export function signsHere(): boolean {
  try {
    return localStorage.getItem("sunledger-signs") === "1";
  } catch {
    return false;
  }
}

/** Whatever went wrong, as something to show: what is no answer of the market leaves open whether it was done. */
export function asProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  return new Problem(0, "unexpected", "", t("Something went wrong. Look at your orders before you try again."));
}

/** Add the signature of an account whose orders are signed in this browser; everybody else's are sent as they are. */
async function addSignature(headers: Record<string, string>, method: string, path: string, body: unknown): Promise<void> {
  // Known without loading what signs: hardly any order needs it. Taking an order back never does.
  if (method === "GET" || method === "DELETE" || !path.startsWith("/api/v1/orders")) return;
  if (!signsHere()) return;
  const signing = await import("./signing");
  const known = await call<import("./signing").Signing>("GET", "/api/v1/me/signing");
  if ((await signing.standing(known)) === "replaced") {
    // Whoever made the market name another key could trade in this person's name: nothing leaves this browser unsigned.
    throw new Problem(409, "key_replaced", "", t("Nothing was sent: this browser holds a key for your orders, and the market does not name it any more. Look at your account page."));
  }
  if (!signing.places(method, path)) return;
  const signature = await signing.signatureOf(known, path, body as Record<string, unknown>, headers["Idempotency-Key"] ?? "");
  if (signature) headers["Order-Signature"] = signature;
}

export async function call<T>(method: string, path: string, body?: unknown, key?: string): Promise<T> {
  const headers: Record<string, string> = {
    Accept: "application/json",
    "Accept-Language": meta.language, // the page's language, which need not be the browser's
  };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET") {
    headers["X-CSRFToken"] = csrfToken();
    headers["Idempotency-Key"] = key ?? newKey();
  }
  await addSignature(headers, method, path, body);
  let response: Response;
  let text: string;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    text = await response.text(); // which may break off as well
  } catch {
    throw new Problem(0, "unreachable", "", t("The market did not answer. Nothing was sent twice; try again."));
  }
  let data: unknown = null;
  try {
    data = text ? JSON.parse(text) : null;
  } catch {
    data = null;
  }
  if (!response.ok) {
    const problem = (data ?? {}) as { code?: string; field?: string; detail?: string; title?: string };
    throw new Problem(
      response.status,
      problem.code ?? "unknown",
      problem.field ?? "",
      (problem.detail && plain(problem.detail)) ?? problem.title ?? t("The market answered with an error ({status}).", { status: response.status }),
    );
  }
  return data as T;
}
