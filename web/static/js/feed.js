// The order of an agent's changes: `rev` rises by one; whatever is missing is asked for, and nothing is applied twice.

const UNSTORED = new Set(["presence.heard", "telemetry.samples", "tick"]);
const BUFFER_LIMIT = 2000;
// A message may overtake its neighbour, or a tick the message it counts; only what stays away is a gap.
const PATIENCE_MS = 250;

/**
 * `fetchSince(rev)` answers `{rev, messages, reset}`; `deliver(message)` is called once per message in order;
 * `reset()` when too much was missed to replay it; `busy(flag)` while it catches up.
 */
export class FeedCursor {
  #rev;
  #hooks;
  #waiting = new Map();
  #catching = null;
  #patience = 0;
  #seenRev = 0;
  #connection = 0;

  constructor(rev, hooks) {
    this.#rev = rev;
    this.#hooks = hooks;
  }

  get rev() {
    return this.#rev;
  }

  receive(message) {
    this.#seenRev = Math.max(this.#seenRev, message.rev);
    if (UNSTORED.has(message.type)) {
      this.#hooks.deliver(message);
    } else if (message.rev > this.#rev) {
      // Beyond the limit the message is not lost: it is part of the gap that is asked for.
      if (this.#waiting.size < BUFFER_LIMIT) this.#waiting.set(message.rev, message);
      if (!this.#catching) this.#applyWaiting();
    }
    if (this.#seenRev > this.#rev && !this.#catching && !this.#patience) {
      this.#patience = setTimeout(() => {
        this.#patience = 0;
        if (this.#seenRev > this.#rev) this.catchUp().catch(() => {});
      }, PATIENCE_MS);
    }
  }

  /** Ask for everything after `rev`; resolves when the page is up to date, rejects when the server cannot be asked. */
  catchUp() {
    if (this.#catching) return this.#catching;
    const mine = this.#replay(this.#connection).finally(() => {
      if (this.#catching !== mine) return;
      this.#catching = null;
      this.#hooks.busy(false);
    });
    this.#catching = mine;
    return mine;
  }

  /** The connection is gone. What was asked for under it may be older than the next subscription: it no longer counts. */
  close() {
    this.#connection += 1;
    this.#catching = null;
    clearTimeout(this.#patience);
    this.#patience = 0;
    this.#waiting.clear();
    this.#seenRev = this.#rev;
  }

  async #replay(connection) {
    this.#hooks.busy(true);
    for (;;) {
      const answer = await this.#hooks.fetchSince(this.#rev);
      if (connection !== this.#connection) return;
      // A smaller number than ours means that the hub lost its past, for instance to a restored backup.
      if (answer.reset || answer.rev < this.#rev) {
        await this.#hooks.reset();
        if (connection !== this.#connection) return;
        this.#rev = answer.rev;
        this.#seenRev = answer.rev;
        for (const rev of this.#waiting.keys()) if (rev <= answer.rev) this.#waiting.delete(rev);
      } else {
        for (const message of answer.messages) this.#apply(message);
        if (answer.messages.length === 0 && answer.rev > this.#rev) this.#rev = answer.rev;
      }
      this.#applyWaiting();
      if (answer.reset || answer.messages.length === 0 || this.#rev >= Math.max(answer.rev, this.#seenRev)) return;
    }
  }

  #applyWaiting() {
    for (let next; (next = this.#waiting.get(this.#rev + 1)); ) this.#apply(next);
    for (const rev of this.#waiting.keys()) if (rev <= this.#rev) this.#waiting.delete(rev);
  }

  #apply(message) {
    this.#waiting.delete(message.rev);
    if (message.rev <= this.#rev) return;
    this.#rev = message.rev;
    this.#hooks.deliver(message);
  }
}
