// How a device's state is said in words; the templates say the same in the same words (web/pages/wording.py).

import { serverNow } from "./clock.js";

export const PRESENCE_LABELS = { online: "online", suspect: "suspect", offline: "offline", sleeping: "sleeping" };
const PENDING = new Set(["queued", "sent", "accepted", "running"]);

export function isPending(status) {
  return PENDING.has(status);
}

/** "pong in 12 ms", "ping …", "ping: no answer in time". */
export function commandWords({ verb, status, rtt_ms: roundTrip, message }) {
  const name = verb || "command";
  if (PENDING.has(status)) return status === "running" ? `${name} running …` : `${name} …`;
  if (status === "succeeded") {
    const took = typeof roundTrip === "number" ? ` in ${milliseconds(roundTrip)}` : "";
    return verb === "ping" ? `pong${took}` : `${name} done${took}`;
  }
  if (status === "expired") return `${name}: ${message || "no answer in time"}`;
  if (status === "unknown") return `${name}: outcome unknown${message ? ` (${message})` : ""}`;
  if (status === "late") return `${name}: answered too late`;
  return `${name} ${status}${message ? `: ${message}` : ""}`;
}

export function milliseconds(value) {
  if (value < 10) return `${value.toFixed(1)} ms`;
  return value < 10_000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
}

/** "heard 3 s ago"; "" when never. */
export function heardWords(iso) {
  const at = Date.parse(iso);
  if (Number.isNaN(at)) return "never heard";
  return `heard ${age((serverNow() - at) / 1000)} ago`;
}

export function age(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 90) return `${s} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 129_600) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86_400)} d`;
}
