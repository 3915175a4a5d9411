// The denials: told over the live feed, fetched as rows, many refusals at once.

import { patchRows } from "./access-rows.js";
import { throttled } from "./coalesce.js";
import { fetchPage } from "./fragments.js";
import { onFeed, onReset } from "./live.js";

const INTERVAL_MS = 500;

const shown = () => document.querySelector("[data-live-denials]");

async function fetchAgain() {
  const asked = location.href;
  const fresh = (await fetchPage(asked)).querySelector("[data-live-denials]");
  // Another filter may have come meanwhile: its own answer is newer than this one.
  if (fresh && asked === location.href) patchRows(shown(), fresh);
}

if (shown()) {
  const update = throttled(
    () =>
      fetchAgain().catch((error) => {
        console.warn("denials: will be fetched again", error);
        setTimeout(update, 3000);
      }),
    INTERVAL_MS,
  );
  onFeed("denials.new", update);
  onReset(fetchAgain);
}
