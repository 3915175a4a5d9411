// The list of satellites: rows are patched in place; what facts cannot say is fetched, many rows at once.

import { throttled } from "./coalesce.js";
import "./device-actions.js";
import { bringUpToDate } from "./device-state.js";
import { fetchRows, fetchPage, morphParts, withAgent } from "./fragments.js";
import { onFeed, onReset } from "./live.js";
import { refresh } from "./relative-time.js";

const ROWS_PER_REQUEST = 100;
const INTERVAL_MS = 300;

const wanted = new Set();
const fetchWanted = throttled(async () => {
  const ids = [...wanted].slice(0, ROWS_PER_REQUEST);
  for (const id of ids) wanted.delete(id);
  try {
    const { tag, remotes } = document.getElementById("device-table").dataset;
    const query = new URLSearchParams({ ids: ids.join(","), ...(tag && { tag }), ...(remotes && { remotes }) });
    const missing = new Set(ids);
    for (const row of await fetchRows(withAgent(`/devices/rows?${query}`))) {
      missing.delete(row.dataset.device);
      put(row);
    }
    for (const id of missing) list().querySelector(`[data-device="${CSS.escape(id)}"]`)?.remove();
    count();
  } catch (error) {
    for (const id of ids) wanted.add(id);
    console.warn("devices: rows will be fetched again", error);
    setTimeout(fetchWanted, 3000);
    return;
  }
  if (wanted.size > 0) fetchWanted();
}, INTERVAL_MS);

function list() {
  return document.getElementById("device-rows");
}

function want(id) {
  wanted.add(id);
  fetchWanted();
}

function put(row) {
  bringUpToDate(row);
  const current = list().querySelector(`[data-device="${CSS.escape(row.dataset.device)}"]`);
  if (current) {
    const moves = current.dataset.order !== row.dataset.order;
    morphParts(current, row);
    if (moves) place(current);
    refresh(current);
  } else {
    const added = document.importNode(row, true);
    place(added);
    added.classList.add("changed");
    refresh(added);
  }
  count();
}

// By name, revoked ones last: the order in which the server lists them.
function place(row) {
  const after = [...list().children].find((other) => other !== row && other.dataset.order > row.dataset.order);
  list().insertBefore(row, after ?? null);
}

function count() {
  const rows = [...list().children];
  document.getElementById("device-table").hidden = rows.length === 0;
  document.getElementById("no-devices").hidden = rows.length > 0;
}

onFeed("devices.updated", (items) => {
  for (const item of items) want(item.device_id);
});
onFeed("denials.new", (items) => {
  for (const item of items) if (item.device_id) want(item.device_id);
});
onReset(async () => {
  const page = await fetchPage(location.href);
  const fresh = page.getElementById("device-rows");
  if (!fresh) return;
  const ids = new Set([...fresh.children].map((row) => row.dataset.device));
  for (const row of [...list().children]) if (!ids.has(row.dataset.device)) row.remove();
  for (const row of [...fresh.children]) put(row);
});
