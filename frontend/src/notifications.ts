// Asking this device to tell what happens while no page is open.
import { call } from "./api";
import { t } from "./messages";
import { announce } from "./status";

const place = document.getElementById("push");

function bytes(text: string): Uint8Array<ArrayBuffer> {
  const plain = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
  return Uint8Array.from(plain, (letter) => letter.charCodeAt(0));
}

function nameOfDevice(): string {
  const agent = navigator.userAgent;
  const browser = /Firefox|Edg|Chrome|Safari/.exec(agent)?.[0].replace("Edg", "Edge") ?? "";
  const system = /Android|iPhone|iPad|Windows|Mac OS|Linux/.exec(agent)?.[0] ?? "";
  return [browser, system].filter(Boolean).join(", ");
}

function say(text: string): void {
  const line = document.createElement("p");
  line.textContent = text;
  place?.replaceChildren(line);
}

function offer(label: string, act: () => Promise<void>): void {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = label;
  button.addEventListener("click", () => {
    button.disabled = true;
    act().catch(() => {
      announce(t("That did not work. Try again."));
      button.disabled = false;
    });
  });
  place?.replaceChildren(button);
}

async function begin(registration: ServiceWorkerRegistration): Promise<void> {
  if ((await Notification.requestPermission()) !== "granted") {
    say(t("The browser does not allow notifications from here. You can change that in its settings for this site."));
    return;
  }
  // Somebody else of this browser may have asked, or the market has another key by now.
  await (await registration.pushManager.getSubscription())?.unsubscribe();
  const wish = { userVisibleOnly: true, applicationServerKey: bytes(place?.dataset.key ?? "") };
  const subscription = await registration.pushManager.subscribe(wish);
  const { endpoint, keys } = subscription.toJSON();
  const device = { endpoint, p256dh: keys?.p256dh, auth: keys?.auth, name: nameOfDevice() };
  await call("POST", "/api/v1/me/push", device);
  announce(t("This device will be told."));
  window.location.reload();
}

async function end(subscription: PushSubscription, device: string): Promise<void> {
  await call("DELETE", `/api/v1/me/push/${device}`);
  await subscription.unsubscribe();
  announce(t("This device is told no more."));
  window.location.reload();
}

async function start(): Promise<void> {
  if (!place) return;
  if (!("serviceWorker" in navigator) || !("PushManager" in window) || !("Notification" in window)) {
    say(t("This browser cannot be told while no page is open."));
    return;
  }
  const registration = await navigator.serviceWorker.ready;
  const subscription = await registration.pushManager.getSubscription();
  const device = place.dataset.device; // one that the market tells this person by
  if (subscription && device) offer(t("This device is told. Stop it"), () => end(subscription, device));
  else offer(t("Tell this device"), () => begin(registration));
}

void start();
