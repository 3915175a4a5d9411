// One action, kept live: what is typed stays, and who was quicker is said.

import { throttled } from "./coalesce.js";
import { fetchPage, morphParts, withAgent } from "./fragments.js";
import { onFeed, onReset } from "./live.js";
import { refresh } from "./relative-time.js";

const INTERVAL_MS = 250;
const RETRY_MS = 3000;

const place = document.querySelector("#one-action");

const bringUpToDate = throttled(async () => {
  try {
    const fresh = (await fetchPage(withAgent(`/actions/${encodeURIComponent(place.dataset.action)}`))).querySelector("#one-action");
    if (!fresh) return;
    morphParts(place, fresh);
    refresh(place);
    // A reason that somebody is typing is kept, and can be sent no more once it is decided.
    const form = place.querySelector("[data-decision]");
    const isOpen = fresh.querySelector("[data-decision]");
    if (form && !isOpen) for (const button of form.querySelectorAll("button")) button.disabled = true;
    if (form && isOpen) form.elements.digest.value = form.elements.digest.defaultValue;
  } catch (error) {
    console.warn("action: will be fetched again", error);
    setTimeout(bringUpToDate, RETRY_MS);
  }
}, INTERVAL_MS);

onFeed("actions.updated", (items) => {
  if (items.some((item) => item.action_id === place.dataset.action)) bringUpToDate();
});
onReset(bringUpToDate);
