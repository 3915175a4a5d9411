// The line that says how live this page is: "live, 38 ms behind", "catching up", "reconnecting in 3 s", "hub is away".

import { lagMs } from "./clock.js";

const state = { connected: false, busy: false, hubAway: false, retryAt: 0, trouble: "" };

/** Change some of the facts and say so. `retryAt` is a `Date.now()` time; `trouble` says why, for people. */
export function note(facts) {
  Object.assign(state, facts);
  paint();
}

export function paint() {
  const element = document.getElementById("live-status");
  if (!element) return;
  const [name, text] = wording();
  // Only what changed is written, so that a screen reader is not told the same again and again.
  if (element.dataset.state !== name) element.dataset.state = name;
  const label = element.querySelector("[data-live-text]") ?? element;
  if (label.textContent !== text) label.textContent = text;
  element.title = state.connected ? "Changes arrive by themselves over MQTT." : state.trouble;
}

function wording() {
  if (!state.connected) {
    const seconds = Math.ceil((state.retryAt - Date.now()) / 1000);
    return seconds > 0 ? ["waiting", `reconnecting in ${seconds} s`] : ["connecting", "connecting"];
  }
  if (state.busy) return ["busy", "catching up"];
  if (state.hubAway) return ["away", "hub is away"];
  const lag = lagMs();
  return ["live", lag === null ? "live" : `live, ${lag < 1000 ? `${lag} ms` : `${(lag / 1000).toFixed(1)} s`} behind`];
}
