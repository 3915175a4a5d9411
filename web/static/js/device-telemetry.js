// The streams of a satellite: each chart is read when it comes into sight, and new samples enter it while somebody looks.

import { Chart, pointWords, timeWords, words } from "./chart.js";
import { now } from "./clock.js";
import { coalescer } from "./coalesce.js";
import { fetchPage, withAgent } from "./fragments.js";
import { onFeed, onReset, request } from "./live.js";
import { refresh } from "./relative-time.js";
import { toast } from "./toast.js";

const WATCH_EVERY_MS = 25_000;
const SLIDE_EVERY_MS = 5_000;
// The hub ticks every 5 s: after a longer pause samples may have been missed.
const MISSED_AFTER_MS = 12_000;
const POINTS = 400;
const TABLE_ROWS = 20;

const id = document.querySelector("main [data-device]").dataset.device;
const section = document.getElementById("telemetry");
const holder = section.querySelector("[data-streams]");
const streams = new Map(); // name → Stream
let spanMs = 1000 * Number(section.querySelector("[data-span][aria-pressed=true]").dataset.span);
let tickedAt = Date.now();

class Stream {
  constructor(element) {
    this.element = element;
    this.name = element.dataset.stream;
    this.points = [];
    this.bucketMs = 0;
    this.asked = 0;
    this.seen = false;
    this.readout = element.querySelector("[data-readout]");
    this.chart = new Chart(element.querySelector("[data-chart]"), (point) => this.#say(point));
    element.querySelector("[data-table]").addEventListener("toggle", () => this.#fillTable());
  }

  get path() {
    return `/api/devices/${encodeURIComponent(id)}/telemetry/${encodeURIComponent(this.name)}`;
  }

  async read() {
    const mine = ++this.asked;
    const span = spanMs;
    const since = new Date(now() - span).toISOString();
    this.#linkCsv(since);
    try {
      const points = Math.max(50, Math.min(POINTS, Math.floor(this.element.clientWidth / 2)));
      const answer = await (await request(withAgent(`${this.path}?since=${encodeURIComponent(since)}&points=${points}`))).json();
      if (mine !== this.asked) return; // another span was asked for meanwhile
      const late = this.points.filter((point) => point.live);
      this.bucketMs = answer.bucket_s * 1000;
      this.points = answer.points.map((point) => ({ ...point, at: Date.parse(point.at) }));
      for (const point of late) this.add(point); // what came while the answer was on its way
      this.paint(span);
    } catch (error) {
      if (mine === this.asked) this.readout.textContent = `The chart could not be read. ${error.message}`;
    }
  }

  /** A sample, or several of a quarter of a second: into the last point while its time lasts, else a new one. */
  add({ at, mean, min, max, count }) {
    const last = this.points.at(-1);
    if (last && at <= last.at) return;
    if (last && at < last.at + this.bucketMs && !last.live) {
      last.mean = (last.mean * last.count + mean * count) / (last.count + count);
      last.count += count;
      last.min = Math.min(last.min, min);
      last.max = Math.max(last.max, max);
    } else if (last?.live && at < last.from + this.bucketMs) {
      const total = last.count + count;
      Object.assign(last, { at, mean: (last.mean * last.count + mean * count) / total, count: total });
      Object.assign(last, { min: Math.min(last.min, min), max: Math.max(last.max, max) });
    } else {
      this.points.push({ at, from: at, mean, min, max, count, live: true });
    }
  }

  paint(span = spanMs) {
    const oldest = now() - span;
    while (this.points.length && this.points[0].at < oldest - this.bucketMs) this.points.shift();
    this.chart.show(this.points, span);
    if (!this.element.matches(":has([data-chart]:hover, [data-chart]:focus)")) this.#say(null);
    this.#fillTable();
  }

  note({ at, value }) {
    this.element.querySelector("[data-now]").textContent = words(value);
    const time = this.element.querySelector("[data-now-at] time");
    if (Date.parse(time.dateTime) < Date.parse(at)) time.dateTime = at;
    refresh(this.element);
  }

  #say(point) {
    const { points } = this;
    if (point) this.readout.textContent = pointWords(point);
    else if (points.length === 0) this.readout.textContent = "No samples in this time.";
    else {
      const low = Math.min(...points.map((one) => one.min));
      const high = Math.max(...points.map((one) => one.max));
      this.readout.textContent = `${words(low)} to ${words(high)} in this time`;
    }
  }

  #linkCsv(since) {
    this.element.querySelector("[data-csv]").href = withAgent(`${this.path}.csv?since=${encodeURIComponent(since)}`);
  }

  #fillTable() {
    const details = this.element.querySelector("[data-table]");
    if (!details.open) return;
    const rows = this.points.slice(-TABLE_ROWS).toReversed().map((point) => {
      const row = document.createElement("tr");
      for (const [number, text] of [timeWords(point.at), ...[point.mean, point.min, point.max].map(words)].entries()) {
        const cell = document.createElement("td");
        cell.textContent = text;
        if (number) cell.className = "end";
        row.append(cell);
      }
      return row;
    });
    details.querySelector("tbody").replaceChildren(...rows);
  }
}

// --- which streams there are, and which are in sight -------------------------------------------------------------

const sight = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const stream = streams.get(target.dataset.stream);
    if (!isIntersecting || !stream || stream.seen) continue;
    stream.seen = true;
    stream.read();
  }
}, { rootMargin: "200px" });

function meet(element) {
  const stream = new Stream(element);
  streams.set(stream.name, stream);
  sight.observe(element);
}

function readAll() {
  for (const stream of streams.values()) if (stream.seen) stream.read();
}

let meeting = null;
/** Streams that this page does not show yet: the server makes them, in their order. */
function meetNew() {
  meeting ??= fetchPage(location.href)
    .then((page) => {
      section.querySelector("[data-empty]")?.remove();
      section.querySelector(".spans").hidden = false;
      const fresh = [...page.querySelectorAll("#telemetry [data-stream]")];
      for (const [index, element] of fresh.entries()) {
        if (streams.has(element.dataset.stream)) continue;
        const mine = document.importNode(element, true);
        holder.insertBefore(mine, holder.children[index] ?? null);
        refresh(mine);
        meet(mine);
      }
    })
    .catch((error) => console.warn("telemetry:", error))
    .finally(() => {
      meeting = null;
    });
}

// --- what comes in -------------------------------------------------------------------------------------------------

const paint = coalescer((name, news) => {
  const stream = streams.get(name);
  stream?.note(news);
  if (stream?.seen) stream.paint();
});

onFeed("telemetry.samples", (items) => {
  for (const item of items) {
    if (item.device_id !== id) continue;
    const stream = streams.get(item.stream);
    if (!stream) {
      meetNew();
      continue;
    }
    stream.add({ at: Date.parse(item.at), mean: item.value, min: item.min, max: item.max, count: item.count });
    paint(item.stream, item);
  }
});
onFeed("tick", () => {
  if (Date.now() - tickedAt > MISSED_AFTER_MS) readAll();
  tickedAt = Date.now();
});
onReset(readAll);

/** The hub tells of samples only where somebody says that they look. */
async function watch() {
  if (document.hidden) return;
  try {
    await request(withAgent(`/devices/${encodeURIComponent(id)}/telemetry/watch`), { method: "POST" });
  } catch (error) {
    console.warn("telemetry:", error);
  }
}

setInterval(watch, WATCH_EVERY_MS);
setInterval(() => {
  if (!document.hidden) for (const stream of streams.values()) if (stream.seen) stream.paint();
}, SLIDE_EVERY_MS);
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  watch();
  readAll();
});

// --- what people do ------------------------------------------------------------------------------------------------

section.addEventListener("click", (event) => {
  const button = event.target.closest("[data-span]");
  if (button) {
    for (const one of section.querySelectorAll("[data-span]")) one.setAttribute("aria-pressed", String(one === button));
    spanMs = 1000 * Number(button.dataset.span);
    for (const stream of streams.values()) stream.points = [];
    readAll();
  }
  const forget = event.target.closest("[data-forget]");
  if (forget) ask(forget.closest("[data-stream]").dataset.stream);
});

function ask(name) {
  const dialog = document.getElementById("forget-dialog");
  dialog.dataset.about = name;
  dialog.querySelector("[data-stream-name]").textContent = name;
  dialog.showModal();
}

document.getElementById("forget-dialog")?.querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const dialog = event.target.closest("dialog");
  const stream = streams.get(dialog.dataset.about);
  const button = event.submitter;
  if (!stream || button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  try {
    await request(withAgent(stream.path), { method: "DELETE" });
    streams.delete(stream.name);
    stream.chart.close();
    stream.element.remove();
    toast(`${stream.name} is forgotten.`, { level: "good" });
    dialog.close();
  } catch (error) {
    toast(`Nothing was forgotten. ${error.message}`, { level: "error" });
  } finally {
    button.removeAttribute("aria-busy");
  }
});

// --- colours -------------------------------------------------------------------------------------------------------

function restyle() {
  for (const stream of streams.values()) if (stream.seen) stream.chart.restyle();
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", restyle);
new MutationObserver(restyle).observe(document.documentElement, { attributeFilter: ["data-theme"] });

for (const element of holder.children) meet(element);
watch();
