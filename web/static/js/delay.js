// Measures the hub's clock, and how far behind it the news arrives.

import { now, setOffset } from "./clock.js";

const KEPT_LAGS = 9;

let bestRoundTripMs = Infinity;
let lags = [];

/** Learn from one HTTP answer: it was made half a round trip before it arrived. The quickest answer knows best. */
export function observe(serverTime, sentAt, receivedAt) {
  const at = Date.parse(serverTime);
  const roundTripMs = receivedAt - sentAt;
  if (Number.isNaN(at) || roundTripMs < 0 || roundTripMs > bestRoundTripMs) return;
  bestRoundTripMs = roundTripMs;
  setOffset(at + roundTripMs / 2 - receivedAt);
}

/** Forget how good the last measurement was: after a sleep the computer's clock may have been set. */
export function doubt() {
  bestRoundTripMs = Infinity;
  lags = [];
}

/** Take note of a message that the hub wrote at `at`. */
export function arrived(at) {
  const lag = now() - Date.parse(at);
  if (Number.isNaN(lag)) return;
  lags.push(Math.max(0, lag));
  if (lags.length > KEPT_LAGS) lags.shift();
}

/** The median delay of the latest messages in milliseconds, or null before the first. */
export function lagMs() {
  if (lags.length === 0) return null;
  const sorted = [...lags].sort((a, b) => a - b);
  return Math.round(sorted[sorted.length >> 1]);
}
