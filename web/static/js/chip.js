// The chip of macros.html, changed in place.

const PRESENCE = { online: "good", suspect: "warn", offline: "bad", sleeping: "calm", unknown: "info" };

/** Give a chip another tone (good, warn, bad, calm, info, busy) and label. */
export function setChip(element, tone, label, title = "") {
  element.dataset.tone = tone;
  const words = element.querySelector(".chip-label");
  if (words.textContent !== label) words.textContent = label;
  if (title) element.title = title;
  else element.removeAttribute("title");
}

/** Show a device's presence; `why` is said on hover. */
export function setPresence(element, presence, why = "") {
  setChip(element, PRESENCE[presence] ?? "calm", presence, why);
}
