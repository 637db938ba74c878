// The service worker's registration, and the quiet word that a new version is there. Nothing reloads by itself.
function announceVersion(): void {
  const place = document.getElementById("new-version");
  if (place) place.hidden = false;
}

function follow(registration: ServiceWorkerRegistration): void {
  registration.addEventListener("updatefound", () => {
    const coming = registration.installing;
    coming?.addEventListener("statechange", () => {
      // Without a worker before, this is the first visit and no news.
      if (coming.state === "installed" && navigator.serviceWorker.controller) announceVersion();
    });
  });
}

export function install(): void {
  if (!("serviceWorker" in navigator) || !window.isSecureContext) return;
  const begin = (): void => void navigator.serviceWorker.register("/sw.js", { updateViaCache: "none" }).then(follow, () => undefined);
  if (document.readyState === "complete") begin();
  else window.addEventListener("load", begin, { once: true });
}
