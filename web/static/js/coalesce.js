// Merges bursts per element: at most four changes a second each, painted together, and the newest state always wins.

const INTERVAL_MS = 250;

/** `apply(key, facts)` is called with all facts that came for `key` since its last turn, the later over the earlier. */
export function coalescer(apply, intervalMs = INTERVAL_MS) {
  const pending = new Map();
  const appliedAt = new Map();
  let timer = 0;
  let frame = 0;

  function flush() {
    frame = 0;
    const now = performance.now();
    let soonest = Infinity;
    for (const [key, facts] of pending) {
      const dueIn = (appliedAt.get(key) ?? -Infinity) + intervalMs - now;
      if (dueIn > 0) {
        soonest = Math.min(soonest, dueIn);
        continue;
      }
      pending.delete(key);
      appliedAt.set(key, now);
      apply(key, facts);
    }
    for (const [key, at] of appliedAt) if (now - at > intervalMs && !pending.has(key)) appliedAt.delete(key);
    if (soonest < Infinity) timer = setTimeout(paint, soonest);
  }

  function paint() {
    timer = 0;
    frame ||= requestAnimationFrame(flush);
  }

  return function add(key, facts) {
    pending.set(key, { ...pending.get(key), ...facts });
    if (!timer) paint();
  };
}

/** `run()` at once when it has rested for `intervalMs`, else as soon as it has; once for all calls that came meanwhile. */
export function throttled(run, intervalMs) {
  let timer = 0;
  let running = false;
  let again = false;
  let startedAt = -Infinity;

  async function turn() {
    timer = 0;
    running = true;
    again = false;
    startedAt = performance.now();
    try {
      await run();
    } finally {
      running = false;
      if (again) request();
    }
  }

  function request() {
    if (running) again = true;
    else timer ||= setTimeout(turn, Math.max(0, startedAt + intervalMs - performance.now()));
  }
  return request;
}
