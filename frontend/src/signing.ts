// Orders signed in this browser: an Ed25519 key that cannot leave it (WebCrypto, IndexedDB), one an account.
// What is signed is in docs/ledger.md; market/engine/signing.py writes the same bytes.
const DATABASE = "sunledger";
const STORE = "keys";
const FLAG = "sunledger-signs"; // spares everybody else the look into the database
const ORDER_DOMAIN = "sunledger/order/v1\n";
const KEY_DOMAIN = "sunledger/key/v2\n";
const NEW = "/new"; // behind an account: a key that the market may not have heard of yet
const PRICE_DIGITS = 4;

interface Kept {
  account: string;
  publicKey: string;
  pair: CryptoKeyPair;
}

/** What the market says about signing for an account; `public_key` is "" while its orders need no signature. */
export interface Signing {
  account_id: string;
  public_key: string;
  rules: string;
  origin: string;
  changes: number;
}

/** Where the key is: nowhere (`off`), in this browser (`mine`), elsewhere, or here while the market names another or none. */
export type Standing = "off" | "mine" | "elsewhere" | "replaced";

type Fields = Record<string, unknown>;

function hex(bytes: ArrayBuffer): string {
  return Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** RFC 8785 for what is signed here: objects and arrays of ASCII texts and integers. */
export function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value !== null && typeof value === "object") {
    const entries = Object.entries(value as Fields).sort(([a], [b]) => (a < b ? -1 : 1));
    return `{${entries.map(([name, one]) => `${JSON.stringify(name)}:${canonical(one)}`).join(",")}}`;
  }
  return JSON.stringify(value);
}

function priceE4(text: string): number {
  const [whole = "", rest = ""] = text.split(".");
  return Number(whole) * 10 ** PRICE_DIGITS + Number(rest.padEnd(PRICE_DIGITS, "0"));
}

/** An order as the ledger will have it, from where it is sent and what is sent. */
export function statement(path: string, body: Fields): Fields {
  const named = path.slice(path.lastIndexOf("/") + 1);
  if (named === "basket") return { kind: named, legs: (body.legs as Fields[]).map(valued) };
  const kind = named !== "orders" ? named : body.display_wh == null ? "order" : "iceberg";
  const fields: Fields = { kind, ...valued(body) };
  delete fields.expires_at;
  if (kind !== "sweep") {
    fields.time_in_force = body.time_in_force ?? "gtg";
    fields.expires_at_ms = body.expires_at ? Date.parse(String(body.expires_at)) : 0;
  }
  return fields;
}

function valued({ price, ...rest }: Fields): Fields {
  return { ...Object.fromEntries(Object.entries(rest).filter(([, value]) => value != null)), price_e4: priceE4(String(price)) };
}

function database(): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(DATABASE, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "account" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

async function stored<T>(mode: IDBTransactionMode, act: (store: IDBObjectStore) => IDBRequest<T>): Promise<T> {
  const opened = await database();
  try {
    return await new Promise((resolve, reject) => {
      const transaction = opened.transaction(STORE, mode);
      const request = act(transaction.objectStore(STORE));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onerror = () => reject(transaction.error);
      transaction.onabort = () => reject(transaction.error);
    });
  } finally {
    opened.close();
  }
}

function keyOf(account: string): Promise<Kept | undefined> {
  return stored<Kept | undefined>("readonly", (store) => store.get(account) as IDBRequest<Kept | undefined>);
}

/** How a key that is kept here, if any, stands to the one that the market names. */
export function standingOf(named: string, kept: string | undefined): Standing {
  if (kept === undefined) return named === "" ? "off" : "elsewhere";
  return kept === named ? "mine" : "replaced";
}

/** What a new key ("" for none) signs, and the one so far. */
export function keyText(known: Signing, publicKey: string): string {
  const { account_id, public_key, changes, origin, rules } = known;
  return KEY_DOMAIN + canonical({ account: account_id, before: public_key, changes, origin, public_key: publicKey, rules });
}

/** Return where the key of an account is. One whose registration was not heard to the end is kept once the market names it. */
export async function standing(known: Signing): Promise<Standing> {
  const made = await keyOf(known.account_id + NEW);
  if (made && made.publicKey === known.public_key) {
    await stored("readwrite", (store) => store.put({ ...made, account: known.account_id }));
    await stored("readwrite", (store) => store.delete(known.account_id + NEW));
  }
  return standingOf(known.public_key, (await keyOf(known.account_id))?.publicKey);
}

/** Make a key for an account and return it with the proof that it is here. It is used once the market names it. */
export async function makeKey(known: Signing): Promise<{ public_key: string; proof: string }> {
  const pair = (await crypto.subtle.generateKey({ name: "Ed25519" }, false, ["sign", "verify"])) as CryptoKeyPair;
  const publicKey = hex(await crypto.subtle.exportKey("raw", pair.publicKey));
  await stored("readwrite", (store) => store.put({ account: known.account_id + NEW, publicKey, pair }));
  localStorage.setItem(FLAG, "1");
  return { public_key: publicKey, proof: await sign(pair, keyText(known, publicKey)) };
}

/** Return the signature with which the key that is kept here lets go of an account. */
export async function letGo(known: Signing): Promise<string> {
  const kept = await keyOf(known.account_id);
  return kept ? sign(kept.pair, keyText(known, "")) : "";
}

/** Forget the key of an account: nothing can be signed with it any more. */
export async function forgetKey(account: string): Promise<void> {
  await stored("readwrite", (store) => store.delete(account));
  await stored("readwrite", (store) => store.delete(account + NEW));
}

async function sign(pair: CryptoKeyPair, text: string): Promise<string> {
  return hex(await crypto.subtle.sign({ name: "Ed25519" }, pair.privateKey, new TextEncoder().encode(text)));
}

/** Whether what goes to this path is an order, which a signature from here may be for; else it changes one. */
export function places(method: string, path: string): boolean {
  return method === "POST" && /^\/api\/v1\/orders(\/(sweep|block|basket))?$/.test(path);
}

/** Return an order's signature, "" when this browser holds no key for the account. */
export async function signatureOf(known: Signing, path: string, body: Fields, key: string): Promise<string> {
  const kept = await keyOf(known.account_id);
  if (!kept) return "";
  const nonce = hex(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(key)));
  const text = ORDER_DOMAIN + canonical({ ...statement(path, body), account: known.account_id, nonce, rules: known.rules });
  return sign(kept.pair, text);
}
