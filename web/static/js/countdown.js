// <time datetime data-countdown>: "14 min 3 s left", ticking. At zero the element tells it once with "marvain:over".

import { now } from "./clock.js";

function left(milliseconds) {
  const seconds = Math.ceil(milliseconds / 1000);
  if (seconds <= 0) return "time is up";
  if (seconds < 60) return `${seconds} s left`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${seconds % 60} s left`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min left` : `${Math.floor(hours / 24)} days left`;
}

/** Bring all countdowns below `root` up to date. */
export function tick(root = document) {
  for (const element of root.querySelectorAll("time[data-countdown]")) {
    const remaining = Date.parse(element.dateTime) - now();
    const text = left(remaining);
    if (element.textContent !== text) element.textContent = text;
    if (remaining <= 0 && element.dataset.countdown !== "over") {
      element.dataset.countdown = "over";
      element.dispatchEvent(new CustomEvent("marvain:over", { bubbles: true }));
    }
  }
}

tick();
setInterval(() => document.hidden || tick(), 1000);
document.addEventListener("visibilitychange", () => document.hidden || tick());
