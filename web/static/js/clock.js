// The hub's clock as this page knows it. Whoever learns of the hub's time says so with setOffset().

let offset = 0;

/** The hub's time now, in milliseconds since 1970. */
export function now() {
  return Date.now() + offset;
}

/** How far the hub's clock is ahead of this one, in milliseconds. */
export function setOffset(milliseconds) {
  offset = milliseconds;
}

window.marvainClock = { now, setOffset };
