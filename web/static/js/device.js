// One satellite's page: its state is patched at once; its ledger of commands and refusals is fetched again when it grew.

import { throttled } from "./coalesce.js";
import "./device-actions.js";
import { bringUpToDate } from "./device-state.js";
import { fetchPage, morphParts } from "./fragments.js";
import { onFeed, onReset } from "./live.js";
import { refresh } from "./relative-time.js";

const shown = document.querySelector("main [data-device]");
const id = shown.dataset.device;

async function fetchAgain() {
  const page = await fetchPage(location.href);
  const fresh = page.querySelector("main [data-device]");
  if (!fresh) return;
  bringUpToDate(fresh);
  morphParts(shown, fresh);
  refresh(shown);
  document.dispatchEvent(new CustomEvent("marvain:fresh", { detail: fresh }));
}

const update = throttled(() => fetchAgain().catch((error) => console.warn("device:", error)), 500);

const TYPES = ["presence.updated", "commands.updated", "devices.updated", "config.updated", "denials.new", "events.new"];
for (const type of TYPES) {
  onFeed(type, (items) => {
    if (items.some((item) => item.device_id === id)) update();
  });
}
onReset(fetchAgain);
