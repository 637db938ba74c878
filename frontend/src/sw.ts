// The service worker. It keeps files of this build, which never change, and one page that says there is no connection.
// Pages, answers of the API and everything personal go to the network and are never kept.
// The server writes `self.sunledger` in front (market/pages/installable.py): another build is another worker.
export type {}; // nothing is exported: the built file is a classic script

interface Facts {
  build: string;
  static: string;
  shell: string[];
  offline: Record<string, string>;
  icon: string;
}
interface Told {
  title: string;
  body: string;
  url: string;
  tag: string;
}
interface Lasting extends Event {
  waitUntil(work: Promise<unknown>): void;
}
interface Fetching extends Lasting {
  request: Request;
  respondWith(answer: Promise<Response>): void;
}
interface Windows {
  url: string;
  focus(): Promise<unknown>;
  navigate(url: string): Promise<unknown>;
}
interface Worker {
  sunledger: Facts;
  location: Location;
  addEventListener(name: string, listener: (event: never) => void): void;
  registration: ServiceWorkerRegistration;
  clients: { matchAll(options: object): Promise<Windows[]>; openWindow(url: string): Promise<unknown> };
}

const worker = self as unknown as Worker;
const { build, static: prefix, shell, offline, icon } = worker.sunledger;
const FILES = `files-${build}`;
const STATE = "state"; // when the market last answered, and in which language: nothing else
const REACHED = "/offline/reached";
const MAX_FILES = 80; // a build has some forty
const FALLBACK = Object.keys(offline)[0];

async function install(): Promise<void> {
  const cache = await caches.open(FILES);
  await cache.addAll([...shell, ...Object.values(offline)]);
}

async function activate(): Promise<void> {
  for (const name of await caches.keys()) if (name !== FILES && name !== STATE) await caches.delete(name);
}

/** Files of this build: from the cache, else from the network and then kept. */
async function file(request: Request): Promise<Response> {
  const cache = await caches.open(FILES);
  const kept = await cache.match(request.url);
  if (kept) return kept;
  const answer = await fetch(request);
  if (answer.ok && (await cache.keys()).length < MAX_FILES) await cache.put(request.url, answer.clone());
  return answer;
}

async function lastLanguage(): Promise<string> {
  const known = await (await caches.open(STATE)).match(REACHED);
  return known ? (((await known.json()) as { language?: string }).language ?? "") : "";
}

async function note(answer: Response): Promise<void> {
  if (answer.status >= 500) return; // that may have been whatever stands before the market
  // A redirect shows us no headers, and so no language.
  const language = answer.headers.get("Content-Language") ?? (await lastLanguage());
  const state = await caches.open(STATE);
  await state.put(REACHED, new Response(JSON.stringify({ at: Date.now(), language })));
}

async function sayOffline(): Promise<Response> {
  const cache = await caches.open(FILES);
  const page = await cache.match(offline[await lastLanguage()] ?? offline[FALLBACK]);
  return page ? new Response(page.body, { status: 503, headers: { "Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": page.headers.get("Content-Security-Policy") ?? "default-src 'self'", "Cache-Control": "no-store" } }) : Response.error();
}

/** Pages: from the network; without one, the page that says so. */
async function page(event: Fetching): Promise<Response> {
  try {
    const answer = await fetch(event.request);
    event.waitUntil(note(answer));
    return answer;
  } catch {
    return sayOffline();
  }
}

async function show(told: Told): Promise<void> {
  await worker.registration.showNotification(told.title, {
    body: told.body,
    tag: told.tag,
    icon,
    badge: icon,
    data: { url: told.url },
  });
}

async function open(url: string): Promise<unknown> {
  const target = new URL(url, worker.location.origin);
  if (target.origin !== worker.location.origin) return undefined;
  for (const window of await worker.clients.matchAll({ type: "window", includeUncontrolled: true })) {
    if (new URL(window.url).pathname === target.pathname) return window.focus();
  }
  return worker.clients.openWindow(target.href);
}

worker.addEventListener("install", (event: Lasting) => event.waitUntil(install()));
worker.addEventListener("activate", (event: Lasting) => event.waitUntil(activate()));
worker.addEventListener("fetch", (event: Fetching) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== worker.location.origin) return;
  if (request.mode === "navigate") event.respondWith(page(event));
  else if (url.pathname.startsWith(prefix)) event.respondWith(file(request));
});
worker.addEventListener("push", (event: Lasting & { data: { json(): Told } | null }) => {
  if (event.data) event.waitUntil(show(event.data.json()));
});
worker.addEventListener("notificationclick", (event: Lasting & { notification: Notification }) => {
  event.notification.close();
  event.waitUntil(open((event.notification.data as { url: string }).url));
});
