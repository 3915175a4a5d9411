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
}

const update = throttled(() => fetchAgain().catch((error) => console.warn("device:", error)), 500);

for (const type of ["presence.updated", "commands.updated", "devices.updated", "denials.new", "events.new"]) {
  onFeed(type, (items) => {
    if (items.some((item) => item.device_id === id)) update();
  });
}
onReset(fetchAgain);
