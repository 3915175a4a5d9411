// The line that says how live this page is: "live, 38 ms behind", "catching up", "reconnecting in 3 s", "hub is away".

import { lagMs } from "./delay.js";

const state = { connected: false, busy: false, hubAway: false, retryAt: 0, trouble: "" };
let parts = null;

/** Change some of the facts and say so. `retryAt` is a `Date.now()` time; `trouble` says why, for people. */
export function note(facts) {
  Object.assign(state, facts);
  paint();
}

export function paint() {
  const element = document.getElementById("live-status");
  if (!element) return;
  parts ??= build(element);
  const [name, word, detail, title] = wording();
  element.dataset.state = name;
  // Only what changed is written, and numbers are for the eye: a screen reader is told the state, not every tick.
  if (parts.word.textContent !== word) parts.word.textContent = word;
  if (parts.detail.textContent !== detail) parts.detail.textContent = detail;
  if (element.title !== title) element.title = title;
}

function build(element) {
  const label = document.createElement("span");
  const word = document.createElement("span");
  const detail = document.createElement("span");
  detail.setAttribute("aria-hidden", "true");
  detail.className = "live-detail";
  label.append(word, detail);
  element.replaceChildren(label);
  element.hidden = false;
  return { word, detail };
}

function wording() {
  if (!state.connected) {
    const seconds = Math.ceil((state.retryAt - Date.now()) / 1000);
    if (seconds > 0) return ["offline", "reconnecting", ` in ${seconds} s`, state.trouble];
    return ["connecting", "connecting", "", state.trouble];
  }
  if (state.busy) return ["catching-up", "catching up", "", "Fetching what this page missed."];
  if (state.hubAway) return ["offline", "hub is away", "", "The hub does not speak. Changes show when it is back."];
  const lag = lagMs();
  const title = "Changes show by themselves: from the hub's commit to this page over MQTT.";
  if (lag === null) return ["live", "live", "", title];
  return ["live", "live", `, ${lag < 1000 ? `${lag} ms` : `${(lag / 1000).toFixed(1)} s`} behind`, title];
}
