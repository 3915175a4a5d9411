// Keeps this page live: one MQTT session over the same origin, a fresh credential per connection, gaps filled by HTTP.

import * as delay from "./delay.js";
import { FeedCursor } from "./feed.js";
import * as status from "./live-status.js";

const BEAT_MS = 1000;
const KEEPALIVE_S = 20;
const CONNECT_TIMEOUT_MS = 10_000;
const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 30_000;
// The hub ticks every 5 s; three missed ticks and it is not there, whatever its last word was.
const SILENCE_MS = 17_000;
// Connection refused: "bad user name or password" and "not authorized".
const REFUSED = new Set([4, 5]);

/** The agent that this page shows; empty on pages of none. */
export const agent = document.querySelector("main[data-agent]")?.dataset.agent ?? "";
const feedHandlers = new Map();
const resetHandlers = [];

let cursor = null;
let session = null; // {client, credential, renewAt}: the connection in use
let attempt = 0; // counts connections; whatever belongs to an older one no longer touches the page
let failures = 0;
let retryTimer = 0;
let heardAt = 0;
let pingedAt = 0;
let hubOnline = true;
let renewing = false;

/** `handler(items, message)` for each message of this type, in order. Returns a function that takes it back. */
export function onFeed(type, handler) {
  if (!feedHandlers.has(type)) feedHandlers.set(type, new Set());
  feedHandlers.get(type).add(handler);
  return () => feedHandlers.get(type).delete(handler);
}

/** `handler()` when too much was missed to replay: fetch again what the page shows. */
export function onReset(handler) {
  resetHandlers.push(handler);
}

/** A request to our own server: JSON in, the response out; throws an error with `status` when it is not a success. */
export async function request(path, { method = "GET", body, accept = "application/json" } = {}) {
  const headers = { Accept: accept };
  if (body !== undefined && !(body instanceof URLSearchParams)) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(body);
  }
  const response = await fetch(path, { method, body, headers, credentials: "same-origin", cache: "no-store" });
  if (response.status === 401) return goToSignIn();
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    throw Object.assign(new Error(problem.detail ?? `The server answered ${response.status}.`), {
      status: response.status,
      problem,
    });
  }
  return response;
}

function goToSignIn() {
  location.assign(`/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`);
  return new Promise(() => {}); // the page is leaving
}

async function timed(path, options) {
  const sentAt = Date.now();
  const response = await request(path, options);
  const receivedAt = Date.now();
  const answer = await response.json();
  if (answer.now) delay.observe(answer.now, sentAt, receivedAt);
  return answer;
}

// --- connecting -------------------------------------------------------------------------------------------------

async function connect() {
  const mine = ++attempt;
  clearTimeout(retryTimer);
  retryTimer = 0;
  session?.client.end(true);
  session = null;
  cursor?.close();
  status.note({ connected: false, retryAt: 0 });
  let credential;
  let mqtt;
  try {
    [credential, { default: mqtt }] = await Promise.all([
      timed("/live/credential", { method: "POST", body: { agent_id: agent } }),
      import("../vendor/mqtt-5.16.0.esm.js"),
    ]);
  } catch (error) {
    if (mine === attempt) retryLater(error.message);
    return;
  }
  if (mine !== attempt) return;
  cursor ??= newCursor(pageRev() ?? credential.rev);
  open(mqtt, credential, mine);
}

function open(mqtt, credential, mine) {
  const url = new URL(credential.url, location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  const client = mqtt.connect(url.href, {
    protocolVersion: 4,
    clean: true,
    keepalive: KEEPALIVE_S,
    reconnectPeriod: 0,
    resubscribe: false,
    connectTimeout: CONNECT_TIMEOUT_MS,
    clientId: credential.client_id,
    username: credential.username,
    password: credential.password,
    timerVariant: "native", // its own choice is a worker made from a blob, which our content policy forbids
  });
  const lifeMs = Date.parse(credential.expires_at) - Date.parse(credential.now);
  session = { client, credential, renewAt: Date.now() + 0.8 * lifeMs };
  let refused = "";
  client.on("connect", () => {
    if (mine === attempt) subscribe(client, credential, mine);
  });
  client.on("message", (topic, payload) => {
    if (mine === attempt) receive(topic, payload, credential);
  });
  client.on("error", (error) => {
    // A refused credential is not worth another look: the next attempt brings a fresh one, or the sign-in page.
    if (REFUSED.has(error.code)) refused = "The hub did not accept this page's credential.";
  });
  client.on("close", () => {
    if (mine === attempt) retryLater(refused || "The connection was closed.");
  });
}

async function subscribe(client, credential, mine) {
  try {
    const granted = await client.subscribeAsync(credential.topics, { qos: 1 });
    if (mine !== attempt) return;
    if (granted.some(({ qos }) => qos > 2)) throw new Error("The hub refused a subscription.");
    heardAt = Date.now();
    status.note({ connected: true, busy: true });
    await cursor.catchUp();
    if (mine === attempt) failures = 0;
  } catch (error) {
    if (mine === attempt) retryLater(error.message);
  }
}

function retryLater(trouble) {
  attempt += 1;
  session?.client.end(true);
  session = null;
  cursor?.close();
  const waitMs = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** failures) * (0.5 + Math.random());
  failures = Math.min(failures + 1, 10);
  retryTimer = setTimeout(connect, waitMs);
  status.note({ connected: false, busy: false, retryAt: Date.now() + waitMs, trouble });
}

function reconnectNow() {
  failures = 0;
  connect();
}

// --- messages ---------------------------------------------------------------------------------------------------

function receive(topic, payload, credential) {
  let message;
  try {
    message = JSON.parse(payload.toString());
  } catch {
    console.warn("live: a message that is not JSON on", topic);
    return;
  }
  if (topic === `${credential.root}/hub/status`) {
    hubOnline = message.status === "online";
    if (hubOnline) heardAt = Date.now();
    status.note({ hubAway: !hubOnline });
    return;
  }
  heardAt = Date.now();
  delay.arrived(message.at);
  cursor.receive(message);
  beat();
}

function newCursor(rev) {
  return new FeedCursor(rev, {
    fetchSince: (since) => timed(`/live/since?agent=${encodeURIComponent(agent)}&rev=${since}`),
    deliver,
    busy: (busy) => status.note({ busy }),
    reset: () => Promise.all(resetHandlers.map((handler) => guarded(handler))),
  });
}

function deliver(message) {
  for (const handler of feedHandlers.get(message.type) ?? []) guarded(() => handler(message.items ?? [], message));
}

// One handler that fails must not keep the news from the others.
async function guarded(run) {
  try {
    await run();
  } catch (error) {
    console.error("live:", error);
  }
}

/** What the server had told when it made this page; changes since then are replayed. */
function pageRev() {
  const rev = Number.parseInt(document.querySelector("[data-rev]")?.dataset.rev ?? "", 10);
  return Number.isNaN(rev) ? null : rev;
}

// --- the beat: every second, and with each message, because the timers of a hidden page may stand still ------------

function beat() {
  const now = Date.now();
  if (session?.client.connected) {
    status.note({ hubAway: !hubOnline || now - heardAt > SILENCE_MS });
    if (now >= session.renewAt && !renewing) renew(session);
    if (document.hidden && now - pingedAt > (KEEPALIVE_S * 1000) / 2) {
      pingedAt = now;
      session.client.sendPing();
    }
  } else {
    status.paint();
  }
}

async function renew(current) {
  renewing = true;
  try {
    const answer = await timed("/live/renew", { method: "POST", body: { username: current.credential.username } });
    const lifeMs = Date.parse(answer.expires_at) - Date.parse(answer.now);
    current.renewAt = Date.now() + 0.8 * lifeMs;
  } catch (error) {
    // Gone for good: begin again with a new one. Otherwise there is time left to try again.
    if (error.status === 404 && current === session) reconnectNow();
    else current.renewAt = Date.now() + 5000;
  } finally {
    renewing = false;
  }
}

function wake() {
  if (document.hidden) return;
  const stale = Date.now() - heardAt > SILENCE_MS;
  if (stale) delay.doubt();
  if (retryTimer || (session && stale && hubOnline)) reconnectNow();
}

if (agent) {
  setInterval(beat, BEAT_MS);
  document.addEventListener("visibilitychange", wake);
  addEventListener("online", reconnectNow);
  addEventListener("pageshow", (event) => event.persisted && reconnectNow());
  addEventListener("pagehide", () => {
    attempt += 1;
    clearTimeout(retryTimer);
    session?.client.end(true);
    session = null;
  });
  // After the page's own modules have said what they want to hear.
  if (document.readyState === "complete") connect();
  else addEventListener("load", connect, { once: true });
}
