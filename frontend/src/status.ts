// The page's one polite status region. Everything that happens without a new page is said here, once.
const CLEAR_MS = 8000;
let timer = 0;

export function announce(text: string): void {
  const region = document.getElementById("status");
  if (!region) return;
  region.textContent = text;
  window.clearTimeout(timer);
  timer = window.setTimeout(() => (region.textContent = ""), CLEAR_MS);
}
