// Devices that ask to join: the part of the page that shows them is fetched anew when something about them changes.

import { throttled } from "./coalesce.js";
import { tick } from "./countdown.js";
import { fetchPage, morphParts, withAgent } from "./fragments.js";
import { onFeed, onReset } from "./live.js";
import { refresh } from "./relative-time.js";

const INTERVAL_MS = 300;
const RETRY_MS = 3000;

const place = document.querySelector("[data-enrolments]");

const bringUpToDate = throttled(async () => {
  try {
    const fresh = (await fetchPage(withAgent(new URL(place.dataset.enrolments, location.href).pathname))).querySelector("[data-enrolments]");
    if (!fresh) return;
    morphParts(place, fresh);
    tick(place);
    refresh(place);
  } catch (error) {
    console.warn("enrolments: will be fetched again", error);
    setTimeout(bringUpToDate, RETRY_MS);
  }
}, INTERVAL_MS);

onFeed("claims.updated", bringUpToDate);
onFeed("enrolments.updated", bringUpToDate);
onReset(bringUpToDate);
// A moment later, so that the server's clock says the same.
place.addEventListener("marvain:over", () => setTimeout(bringUpToDate, 1000));
