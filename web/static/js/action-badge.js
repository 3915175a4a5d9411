// How many actions wait for this person: a number in the navigation and in the title; and, where asked for, a notice.

import { throttled } from "./coalesce.js";
import { withAgent } from "./fragments.js";
import { onFeed, onReset, request } from "./live.js";

const INTERVAL_MS = 1000;
const RETRY_MS = 5000;
const WISH = "marvain.notify";

const badge = document.querySelector("[data-badge='actions']");
const title = document.title;
let count = null;

const look = throttled(async () => {
  try {
    const { count: now, newest } = await (await request(withAgent("/actions/waiting"))).json();
    if (count !== null && now > count && newest) notify(newest);
    count = now;
    badge.hidden = now === 0;
    badge.querySelector("[aria-hidden]").textContent = now > 99 ? "99+" : String(now);
    badge.querySelector(".visually-hidden").textContent = `${now} waiting for you`;
    document.title = now ? `(${now}) ${title}` : title;
  } catch (error) {
    console.warn("badge: will be looked at again", error);
    setTimeout(look, RETRY_MS);
  }
}, INTERVAL_MS);

// Never what it is about in detail: a notice may be read by whoever passes the screen.
function notify({ action_id: id, tool, risk }) {
  if (!wished() || Notification.permission !== "granted") return;
  const notice = new Notification("Marvain: an action waits for you", { body: `${tool}, ${risk} risk`, tag: `marvain-${id}` });
  notice.onclick = () => {
    window.focus();
    location.assign(withAgent(`/actions/${encodeURIComponent(id)}`));
  };
}

function wished() {
  try {
    return "Notification" in window && localStorage.getItem(WISH) === "yes";
  } catch {
    return false;
  }
}

const button = document.querySelector("[data-notify]");
if (button && "Notification" in window) {
  const paint = () => {
    const on = wished() && Notification.permission === "granted";
    button.hidden = Notification.permission === "denied";
    button.setAttribute("aria-pressed", String(on));
    button.textContent = on ? "This browser tells you when something waits. Stop that" : "Tell me in this browser when something waits for me";
  };
  button.addEventListener("click", async () => {
    const on = wished() && Notification.permission === "granted";
    if (!on && Notification.permission !== "granted") await Notification.requestPermission();
    localStorage.setItem(WISH, !on && Notification.permission === "granted" ? "yes" : "no");
    paint();
  });
  paint();
}

if (badge) {
  onFeed("actions.updated", look);
  onReset(look);
  look();
}
