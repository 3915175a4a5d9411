// One batch: whatever is said of one of its satellites has the page's parts fetched again, at most twice a second.

import { throttled } from "./coalesce.js";
import { fetchPage, morphParts } from "./fragments.js";
import { onFeed, onReset } from "./live.js";
import { refresh } from "./relative-time.js";

const shown = document.querySelector("main [data-batch]");
const id = shown.dataset.batch;

async function fetchAgain() {
  const fresh = (await fetchPage(location.href)).querySelector("main [data-batch]");
  if (!fresh) return;
  morphParts(shown, fresh);
  refresh(shown);
}

const update = throttled(() => fetchAgain().catch((error) => console.warn("batch:", error)), 500);

onFeed("commands.updated", (items) => {
  if (items.some((item) => item.batch_id === id)) update();
});
onFeed("config.updated", update);
onReset(fetchAgain);
