// How a device's state is said in words; the templates say the same in the same words (web/pages/device_words.py).

const TONES = { succeeded: "good", failed: "bad", rejected: "bad", expired: "bad", unknown: "warn", cancelled: "calm" };
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
  if (status === "cancelled") return `${name} cancelled`;
  if (status === "late") return `${name}: answered too late`;
  return `${name} ${status}${message ? `: ${message}` : ""}`;
}

export function commandTone(status) {
  return PENDING.has(status) ? "busy" : (TONES[status] ?? "warn");
}

function milliseconds(value) {
  if (value < 10) return `${value.toFixed(1)} ms`;
  return value < 10_000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
}
