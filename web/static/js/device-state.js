// Shows what the feeds say of devices wherever this page shows them: any element with `data-device` is one device.
// Facts are kept with their revision, so that a piece fetched from the server can never bring back an older state.

import { setChip, setPresence } from "./chip.js";
import { coalescer } from "./coalesce.js";
import { commandTone, commandWords, isPending } from "./device-words.js";
import { onFeed } from "./live.js";
import { refresh } from "./relative-time.js";

const SOURCES = { http: "HTTP", proxy: "another satellite" };
const known = new Map(); // device id → {presence, heard, command}, each with the revision it came with
const add = coalescer((id, facts) => {
  for (const element of document.querySelectorAll(`[data-device="${CSS.escape(id)}"]`)) show(element, facts);
});

function learn(id, facts) {
  known.set(id, { ...known.get(id), ...facts });
  add(id, facts);
}

/** Put onto a piece that the server made at its `data-rev` what has been heard since; call before it is shown. */
export function bringUpToDate(element) {
  const rev = Number(element.dataset.rev ?? 0);
  const newer = Object.entries(known.get(element.dataset.device) ?? {}).filter(([, fact]) => fact.rev > rev);
  show(element, Object.fromEntries(newer));
}

function show(element, { presence, heard, command }) {
  if (presence) showPresence(element, presence);
  if (heard) showHeard(element, heard.last_heard_at);
  if (command) showCommand(element, command);
}

function showPresence(element, item) {
  // What is said of a revoked device is that it is revoked, and of one that is waited for that it is not there yet.
  if (element.dataset.revoked !== undefined) return;
  if (element.dataset.waiting !== undefined && item.presence !== "online") return;
  delete element.dataset.waiting;
  element.dataset.presence = item.presence;
  for (const holder of element.querySelectorAll("[data-field=presence]")) {
    setPresence(holder.querySelector(".chip"), item.presence, item.why);
  }
  for (const word of element.querySelectorAll("[data-field=flapping]")) word.hidden = !item.flapping;
  setText(element, "why", item.why);
  setText(element, "source", SOURCES[item.source] ?? "MQTT");
  setText(element, "epoch", String(item.epoch));
  setText(element, "bound", String(Math.ceil(item.bound_s)));
  setTime(element, "since", item.since);
  if (item.last_heard_at) showHeard(element, item.last_heard_at);
}

function showHeard(element, at) {
  setTime(element, "heard", at, (shown) => Date.parse(shown) > Date.parse(at));
}

function showCommand(element, item) {
  for (const holder of element.querySelectorAll("[data-field=command]")) {
    holder.hidden = false;
    holder.dataset.status = item.status;
    setChip(holder.querySelector(".chip"), commandTone(item.status), commandWords(item));
  }
  setText(element, "no-command", "");
  const button = element.querySelector("[data-action=ping]");
  if (button && item.verb === "ping") {
    if (isPending(item.status)) button.setAttribute("aria-busy", "true");
    else button.removeAttribute("aria-busy");
  }
}

function setText(element, field, text) {
  for (const target of element.querySelectorAll(`[data-field=${field}]`)) {
    if (target.textContent !== text) target.textContent = text;
  }
}

function setTime(element, field, at, keep = () => false) {
  for (const holder of element.querySelectorAll(`[data-field=${field}]`)) {
    let time = holder.querySelector("time");
    if (!time) {
      time = document.createElement("time");
      time.dataset.relative = "";
      holder.replaceChildren(time);
    }
    if (time.dateTime === at || keep(time.dateTime)) continue;
    time.dateTime = at;
    refresh(holder);
  }
}

// Of a device's commands the newest is shown: it announces itself as queued; what is said later must be about it.
function isNews(item) {
  const shown = known.get(item.device_id)?.command;
  return !shown || shown.command_id === item.command_id || item.status === "queued" || item.status === "sent";
}

/** What this page itself asked for, shown before the feed tells of it (and not if that was quicker). */
export function noteCommand(item) {
  if (known.get(item.device_id)?.command?.command_id !== item.command_id) {
    learn(item.device_id, { command: { ...item, rev: 0 } });
  }
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
