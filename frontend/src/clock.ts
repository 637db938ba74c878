// The market's clock: time and date in the reader's zone, and the sun on its way across the band.
import { clock, clockSeconds, day, marketClock } from "./format";
import { marketNow, meta } from "./meta";

const RADIUS = 28;
const CENTRE_X = 34;
const GROUND_Y = 32;
const SLOW_MS = 1000;
const FAST_MS = 250; // at sixty times life a second's tick would jump a minute

function minutesOfDay(atMs: number): number {
  const [hours, minutes] = marketClock(atMs).split(":").map(Number);
  return hours * 60 + minutes + ((atMs / 1000) % 60) / 60;
}

function draw(root: HTMLElement): void {
  const now = marketNow();
  const time = root.querySelector("b");
  const date = root.querySelector("span span");
  const text = meta.speed > 5 ? clock(now) : clockSeconds(now);
  if (time && time.textContent !== text) time.textContent = text;
  const today = day(now);
  if (date && date.textContent !== today) date.textContent = today;
  const sun = root.querySelector("circle");
  if (!sun) return;
  // The arc runs from 06:00 to 18:00; at night the disc rests empty below the ground line.
  const part = (minutesOfDay(now) - 360) / 720;
  const up = part >= 0 && part <= 1;
  const angle = Math.PI * (1 - Math.min(1, Math.max(0, part)));
  sun.setAttribute("cx", String(Math.round((CENTRE_X + RADIUS * Math.cos(angle)) * 10) / 10));
  sun.setAttribute("cy", String(Math.round((GROUND_Y - RADIUS * Math.sin(angle)) * 10) / 10));
  sun.setAttribute("class", up ? "sun" : "night");
}

export function startClock(): void {
  const root = document.getElementById("clock");
  if (!root || !meta.running) return;
  draw(root);
  window.setInterval(() => draw(root), meta.speed > 5 ? FAST_MS : SLOW_MS);
}
