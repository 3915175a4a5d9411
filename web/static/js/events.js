// The list of events: new ones enter quietly at the top, or wait behind a pill while one reads further down.

import { throttled } from "./coalesce.js";
import { fetchPage, fetchRows, withAgent } from "./fragments.js";
import { onFeed, onReset } from "./live.js";
import { refresh } from "./relative-time.js";
import { toast } from "./toast.js";

const IDS_PER_REQUEST = 100;
// More than this at once is not read row by row: the newest page is fetched instead.
const WAITING_LIMIT = 200;
const ROWS_KEPT = 500;
const RECENT_KEPT = 1000;
const INTERVAL_MS = 250;

const waiting = new Map(); // event id → event number; those not shown yet
let overflow = 0; // how many more there are than `waiting` holds
const recent = []; // {rev, item} of the latest events told, for what a fetched page was too early to have
const list = () => document.getElementById("event-list");
const rows = () => document.getElementById("event-rows");
const pill = document.getElementById("event-pill");

const enter = throttled(async () => {
  if (isReading()) return showPill();
  try {
    if (overflow > 0) await showNewest();
    else await showWaiting();
  } catch (error) {
    console.warn("events: will be fetched again", error);
    setTimeout(enter, 3000);
  }
}, INTERVAL_MS);

/** Whether the top of the list is out of sight, or the page shows the past: then nothing may move. */
function isReading() {
  const table = document.getElementById("event-table");
  return list().dataset.before !== "" || (!table.hidden && table.getBoundingClientRect().top < 0);
}

function matches(item) {
  const { type, deviceId, space } = list().dataset;
  return (!type || item.type === type) && (!deviceId || item.device_id === deviceId) && (!space || item.space_id === space);
}

function wait(item) {
  if (!matches(item) || rows().querySelector(`[data-event="${CSS.escape(item.event_id)}"]`)) return;
  waiting.set(item.event_id, item.event_no);
  if (waiting.size > WAITING_LIMIT) {
    waiting.delete(waiting.keys().next().value);
    overflow += 1;
  }
}

/** A page made at `rev` has all that was told until then; what came later waits again. */
function beginAgain(rev) {
  waiting.clear();
  overflow = recent.length === RECENT_KEPT && recent[0].rev > rev + 1 ? 1 : 0;
  for (const one of recent) if (one.rev > rev) wait(one.item);
  if (waiting.size > 0) enter();
}

async function showWaiting() {
  while (waiting.size > 0) {
    const asked = list();
    const ids = [...waiting.keys()].slice(0, IDS_PER_REQUEST);
    const fetched = await fetchRows(withAgent(`/events/rows?ids=${ids.join(",")}`));
    if (asked !== list()) return; // another filter came meanwhile: these rows are none of its
    for (const id of ids) waiting.delete(id);
    for (const row of fetched) place(row);
  }
  settle();
}

/** The newest page, in which the rows that are shown already stay the very same elements. */
async function showNewest() {
  const address = new URL(location.href);
  address.searchParams.delete("before");
  const asked = list();
  const fresh = (await fetchPage(address.pathname + address.search)).getElementById("event-list");
  if (asked !== list()) return; // another filter came meanwhile
  beginAgain(Number(fresh.dataset.rev));
  const shown = new Map([...rows().children].map((row) => [row.dataset.event, row]));
  const wanted = [...fresh.querySelector("#event-rows").children];
  const overlaps = wanted.some((row) => shown.has(row.dataset.event));
  for (const row of wanted) if (!shown.has(row.dataset.event)) place(row);
  if (!overlaps) {
    // A gap between the newest page and what was shown: what was shown gives way.
    for (const row of shown.values()) row.remove();
    takeOlder(fresh);
  }
  settle();
}

function place(row) {
  if (rows().querySelector(`[data-event="${CSS.escape(row.dataset.event)}"]`)) return;
  const number = Number(row.dataset.no);
  const below = [...rows().children].find((other) => Number(other.dataset.no) < number);
  const added = document.importNode(row, true);
  added.classList.add("changed");
  rows().insertBefore(added, below ?? null);
}

function settle() {
  trim();
  const empty = rows().children.length === 0;
  document.getElementById("event-table").hidden = empty;
  document.getElementById("no-events").hidden = !empty;
  refresh(rows());
  showPill();
}

// A page that is open for days does not grow for ever; what leaves at the bottom is behind "older" again.
function trim() {
  const all = rows().children;
  if (all.length <= ROWS_KEPT) return;
  while (all.length > ROWS_KEPT) all[all.length - 1].remove();
  const older = document.getElementById("older");
  const address = new URL(older.href);
  address.searchParams.set("before", all[all.length - 1].dataset.no);
  older.href = address.pathname + address.search;
  older.parentElement.hidden = false;
}

function showPill() {
  const count = waiting.size + overflow;
  pill.hidden = count === 0 || !isReading();
  const text = `${count.toLocaleString()} new`;
  if (pill.textContent !== text) pill.textContent = text;
}

function takeOlder(fresh) {
  const link = fresh.querySelector("#older");
  const older = document.getElementById("older");
  older.href = link.getAttribute("href");
  older.parentElement.hidden = link.parentElement.hidden;
}

pill.addEventListener("click", () => {
  if (list().dataset.before !== "") {
    location.assign(withoutBefore());
    return;
  }
  scrollTo({ top: 0 });
  enter();
});
addEventListener("scroll", () => waiting.size + overflow > 0 && !isReading() && enter(), { passive: true });

function withoutBefore() {
  const address = new URL(location.href);
  address.searchParams.delete("before");
  return address.pathname + address.search;
}

document.addEventListener("click", async (event) => {
  const older = event.target.closest("#older");
  if (!older || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  if (older.getAttribute("aria-busy") === "true") return;
  older.setAttribute("aria-busy", "true");
  try {
    const fresh = (await fetchPage(older.getAttribute("href"))).getElementById("event-list");
    if (!older.isConnected) return; // another filter came meanwhile
    for (const row of [...fresh.querySelector("#event-rows").children]) {
      if (!rows().querySelector(`[data-event="${CSS.escape(row.dataset.event)}"]`)) {
        rows().append(document.importNode(row, true));
      }
    }
    takeOlder(fresh);
    refresh(rows());
  } catch (error) {
    toast(`Older events could not be fetched. ${error.message}`, { level: "error" });
  } finally {
    older.removeAttribute("aria-busy");
  }
});

const filters = document.getElementById("event-filters");
let question = 0;

/** Another filter: the list changes in place and the address with it. */
async function narrow() {
  const mine = ++question;
  const query = new URLSearchParams([...new FormData(filters)].filter(([, value]) => value));
  const address = `/events${query.size > 0 ? `?${query}` : ""}`;
  try {
    const fresh = (await fetchPage(address)).getElementById("event-list");
    if (mine !== question) return;
    history.replaceState(null, "", address);
    list().replaceWith(document.importNode(fresh, true));
    beginAgain(Number(fresh.dataset.rev));
    refresh(list());
    enter();
  } catch (error) {
    toast(`The list could not be narrowed. ${error.message}`, { level: "error" });
  }
}
filters.addEventListener("change", narrow);
filters.addEventListener("submit", (event) => {
  event.preventDefault();
  narrow();
});

// What is new can be asked for as well.
function offer(name, value, label) {
  const select = filters.elements[name];
  if (![...select.options].some((option) => option.value === value)) select.add(new Option(label, value));
}

onFeed("events.new", (items, { rev }) => {
  for (const item of items) {
    offer("type", item.type, item.type);
    if (item.device_id) offer("device", item.device_id, item.handle);
    recent.push({ rev, item });
    wait(item);
  }
  recent.splice(0, recent.length - RECENT_KEPT);
  if (waiting.size > 0) enter();
});
onReset(async () => {
  if (isReading()) {
    overflow += 1; // how many is not known; the newest page says
    showPill();
  } else {
    await showNewest();
  }
});
