// <time datetime data-relative>: "12 s ago", ticking. <time datetime data-local="time|datetime">: in the viewer's zone.
// Elements that come later are found by themselves: every tick looks anew.

import { now } from "./clock.js";

const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
const forms = {
  time: new Intl.DateTimeFormat(undefined, { timeStyle: "medium" }),
  datetime: new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" }),
};

/** An age in words, from milliseconds: "now", "12 s ago", "3 min ago", "5 h ago", "2 days ago". */
export function age(milliseconds) {
  const seconds = Math.floor(milliseconds / 1000);
  if (seconds < 1) return "now";
  if (seconds < 60) return `${seconds} s ago`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ago`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ago`;
  return `${Math.floor(hours / 24)} days ago`;
}

function write(element, text) {
  // An unchanged text is left alone, so that a selection survives the tick.
  if (element.textContent !== text) element.textContent = text;
}

/** Bring the times below `root` up to date. */
export function refresh(root = document) {
  const at = now();
  for (const element of root.querySelectorAll("time[data-relative]")) {
    const then = Date.parse(element.dateTime);
    if (Number.isNaN(then)) continue;
    write(element, age(Math.max(0, at - then)));
    if (element.dataset.titled !== element.dateTime) {
      element.title = exact.format(then);
      element.dataset.titled = element.dateTime;
    }
  }
  for (const element of root.querySelectorAll("time[data-local]:not([data-shown])")) {
    const then = Date.parse(element.dateTime);
    if (Number.isNaN(then)) continue;
    write(element, (forms[element.dataset.local] ?? forms.datetime).format(then));
    element.title = exact.format(then);
    element.dataset.shown = "";
  }
}

refresh();
setInterval(() => document.hidden || refresh(), 1000);
document.addEventListener("visibilitychange", () => document.hidden || refresh());
document.addEventListener("htmx:afterSettle", () => refresh());
