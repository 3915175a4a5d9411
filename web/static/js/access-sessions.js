// The sessions, asked for every two seconds while somebody looks.

import { patchRows } from "./access-rows.js";
import { fetchPage } from "./fragments.js";

const INTERVAL_MS = 2000;

const shown = document.querySelector("[data-poll]");
let timer = 0;
let under = false;

async function look() {
  clearTimeout(timer);
  timer = 0;
  if (document.hidden || under) return;
  under = true;
  try {
    const fresh = await fetchPage(shown.dataset.poll);
    if (fresh.querySelector("[data-rows]")) {
      patchRows(shown, fresh);
      const count = fresh.querySelector("[data-part=count]");
      const old = shown.querySelector("[data-part=count]");
      if (old.textContent !== count.textContent) old.textContent = count.textContent;
    }
  } catch (error) {
    console.warn("sessions: will be asked for again", error);
  } finally {
    under = false;
    timer = setTimeout(look, INTERVAL_MS);
  }
}

if (shown) {
  timer = setTimeout(look, INTERVAL_MS);
  document.addEventListener("visibilitychange", () => document.hidden || look());
}
