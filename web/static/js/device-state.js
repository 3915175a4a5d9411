// Shows what the feeds say of devices wherever this page shows them: any element with `data-device` is one device.
// Facts are kept with their revision, so that a piece fetched from the server can never bring back an older state.

import { coalescer } from "./coalesce.js";
import { commandWords, heardWords, isPending, PRESENCE_LABELS } from "./device-words.js";
import { onFeed } from "./live.js";
import { setTime } from "./time.js";

const known = new Map(); // device id → {presence, command, heard}, each with the revision it came with
const add = coalescer((id, facts) => {
  for (const element of elementsOf(id)) show(element, facts);
});

function elementsOf(id) {
  return document.querySelectorAll(`[data-device="${CSS.escape(id)}"]`);
}

function learn(id, facts) {
  known.set(id, { ...known.get(id), ...facts });
  add(id, facts);
}

/** Put onto a fragment that was made at its `data-rev` what has been heard since. Call before it is shown. */
export function refreshFragment(element) {
  const facts = known.get(element.dataset.device);
  const rev = Number(element.dataset.rev ?? Infinity);
  if (!facts) return;
  show(element, Object.fromEntries(Object.entries(facts).filter(([, fact]) => fact.rev > rev)));
}

function show(element, { presence, command, heard }) {
  if (presence) showPresence(element, presence);
  if (heard) showHeard(element, heard.last_heard_at);
  if (command) showCommand(element, command);
}

function showPresence(element, item) {
  // The word of a revoked device's row is that it is revoked, whatever its connection was.
  if (element.dataset.revoked !== undefined) return;
  element.dataset.presence = item.presence;
  for (const chip of element.querySelectorAll("[data-field=presence]")) {
    chip.dataset.state = item.presence;
    (chip.querySelector("[data-label]") ?? chip).textContent = PRESENCE_LABELS[item.presence] ?? item.presence;
  }
  setText(element, "why", item.why);
  for (const time of element.querySelectorAll("[data-field=since]")) setTime(time, item.since);
  setText(element, "epoch", item.epoch);
  setText(element, "bound", typeof item.bound_s === "number" ? Math.ceil(item.bound_s) : "");
  if (item.last_heard_at) showHeard(element, item.last_heard_at);
}

function showHeard(element, at) {
  for (const heard of element.querySelectorAll("[data-field=heard]")) {
    if (Date.parse(at) < Date.parse(heard.dataset.at)) continue;
    heard.dataset.at = at;
    heard.textContent = heardWords(at);
  }
}

function showCommand(element, item) {
  for (const command of element.querySelectorAll("[data-field=command]")) {
    command.dataset.command = item.command_id;
    command.dataset.status = item.status;
    command.textContent = commandWords(item);
  }
  const ping = element.querySelector("[data-action=ping]");
  if (ping && item.verb === "ping") ping.toggleAttribute("aria-busy", isPending(item.status));
}

function setText(element, field, text) {
  for (const target of element.querySelectorAll(`[data-field=${field}]`)) target.textContent = text;
}

// Of a device's commands the row shows the newest: a new one announces itself as queued, later words belong to it.
function isNews(item) {
  const current = known.get(item.device_id)?.command;
  if (!current || current.command_id === item.command_id) return true;
  return item.status === "queued" || item.status === "sent";
}

/** What the answer to a request of this very page says of a command, before the feed does. */
export function noteCommand(item, rev = 0) {
  const current = known.get(item.device_id)?.command;
  if (current?.command_id !== item.command_id) learn(item.device_id, { command: { ...item, rev } });
}

onFeed("presence.updated", (items, { rev }) => {
  for (const item of items) learn(item.device_id, { presence: { ...item, rev } });
});
onFeed("presence.heard", (items, { rev }) => {
  for (const item of items) learn(item.device_id, { heard: { ...item, rev } });
});
onFeed("commands.updated", (items, { rev }) => {
  for (const item of items) if (isNews(item)) learn(item.device_id, { command: { ...item, rev } });
});

// Ages tick once a second, and only where somebody can see them.
function tick() {
  if (document.hidden) return;
  for (const heard of document.querySelectorAll("[data-field=heard][data-at]")) {
    const box = heard.getBoundingClientRect();
    if (box.bottom < 0 || box.top > innerHeight) continue;
    const text = heardWords(heard.dataset.at);
    if (heard.textContent !== text) heard.textContent = text;
  }
}
setInterval(tick, 1000);
document.addEventListener("visibilitychange", tick);
