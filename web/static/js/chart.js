// One stream as a line with the range of its values behind it, in the colours of the page. Times are milliseconds.

import uPlot from "../vendor/uplot-1.6.32.esm.js";
import { now } from "./clock.js";

const HEIGHT = 176;
const DAY_MS = 86_400_000;
const whole = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 6 });
const powers = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 6, notation: "scientific" });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const ofTicks = {
  time: new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" }),
  second: new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" }),
  day: new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" }),
};

/** A value in few digits, as its reader's language writes it. */
export function words(value) {
  const size = Math.abs(value);
  return (size !== 0 && (size < 1e-4 || size >= 1e9) ? powers : whole).format(value);
}

/** A time in the viewer's zone. */
export function timeWords(at) {
  return exact.format(at);
}

/** What a point says: its time, its mean, and the range where it has one. */
export function pointWords({ at, mean, min, max }) {
  const range = min === max ? "" : ` (${words(min)} to ${words(max)})`;
  return `${timeWords(at)}: ${words(mean)}${range}`;
}

/**
 * Draws points `{at, mean, min, max}` in `element`. `onCursor(point | null)` says what is pointed at. Gaps longer than
 * three times the usual distance are left open.
 */
export class Chart {
  #element;
  #onCursor;
  #plot = null;
  #points = [];
  #spanMs = 0;
  #observer;

  constructor(element, onCursor) {
    this.#element = element;
    this.#onCursor = onCursor;
    this.#observer = new ResizeObserver(() => this.#resize());
    this.#observer.observe(element);
    element.addEventListener("keydown", (event) => this.#step(event));
    element.addEventListener("blur", () => this.#plot?.setCursor({ left: -10, top: -10 }));
  }

  /** Show these points, of the last `spanMs` until now. */
  show(points, spanMs) {
    this.#points = points;
    const another = spanMs !== this.#spanMs;
    this.#spanMs = spanMs;
    if (this.#plot && !another) this.#plot.setData(this.#columns());
    else this.restyle();
  }

  /** Draw anew, in the colours that the page has now. */
  restyle() {
    this.#plot?.destroy();
    this.#plot = this.#element.clientWidth ? new uPlot(this.#options(), this.#columns(), this.#element) : null;
  }

  close() {
    this.#observer.disconnect();
    this.#plot?.destroy();
    this.#plot = null;
  }

  #resize() {
    const width = this.#element.clientWidth;
    if (!this.#plot && width && this.#spanMs) this.restyle();
    else if (this.#plot && width && width !== this.#plot.width) this.#plot.setSize({ width, height: HEIGHT });
  }

  #columns() {
    const columns = [[], [], [], []];
    for (const point of this.#broken()) {
      columns[0].push(point.at / 1000);
      columns[1].push(point.mean);
      columns[2].push(point.max);
      columns[3].push(point.min);
    }
    return columns;
  }

  // The points with one of no value in each gap, which breaks the line.
  #broken() {
    const points = this.#points;
    const steps = points.slice(1).map((point, index) => point.at - points[index].at);
    const usual = steps.length ? steps.toSorted((a, b) => a - b)[Math.floor(steps.length / 2)] : 0;
    return points.flatMap((point, index) =>
      index > 0 && steps[index - 1] > 3 * usual
        ? [{ at: point.at - steps[index - 1] / 2, mean: null, min: null, max: null }, point]
        : [point],
    );
  }

  #options() {
    const { color, caretColor, textDecorationColor, columnRuleColor, fontFamily } = getComputedStyle(this.#element);
    const axis = {
      stroke: caretColor,
      font: `11px ${fontFamily}`,
      grid: { stroke: textDecorationColor, width: 1 },
      ticks: { stroke: textDecorationColor, width: 1 },
    };
    const edge = { stroke: "transparent", width: 0, points: { show: false } };
    return {
      width: this.#element.clientWidth,
      height: HEIGHT,
      legend: { show: false },
      cursor: { y: false, drag: { setScale: false, x: false, y: false }, points: { one: true } },
      scales: {
        x: { time: true, range: () => [(now() - this.#spanMs) / 1000, now() / 1000] },
        y: { range: (_plot, low, high) => padded(low, high) },
      },
      axes: [
        { ...axis, space: 70, values: (_plot, splits) => splits.map((at) => this.#tick(at * 1000, splits)) },
        { ...axis, size: (_plot, values) => 12 + 7 * Math.max(3, ...(values ?? []).map((value) => value.length)), values: (_plot, splits) => splits.map(words) },
      ],
      series: [{}, { stroke: color, width: 1.5, points: { size: 4, fill: color } }, edge, edge],
      bands: [{ series: [2, 3], fill: columnRuleColor }],
      hooks: { setCursor: [(plot) => this.#onCursor(this.#at(plot.cursor.idx, plot))] },
    };
  }

  #tick(at, splits) {
    if (this.#spanMs > 2 * DAY_MS) return ofTicks.day.format(at);
    return (splits.length > 1 && splits[1] - splits[0] < 60 ? ofTicks.second : ofTicks.time).format(at);
  }

  #at(index, plot) {
    if (index === null || index === undefined || plot.data[1][index] === null) return null;
    const [at, mean, max, min] = plot.data.map((column) => column[index]);
    return at === undefined ? null : { at: at * 1000, mean, max, min };
  }

  #step(event) {
    const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
    if (!(event.key in steps) || !this.#plot || !this.#points.length) return;
    event.preventDefault();
    const times = this.#plot.data[0];
    const from = this.#plot.cursor.idx ?? times.length;
    let index = Math.min(times.length - 1, Math.max(0, from + steps[event.key]));
    if (this.#plot.data[1][index] === null) index = Math.min(times.length - 1, Math.max(0, index + Math.sign(steps[event.key])));
    this.#plot.setCursor({ left: this.#plot.valToPos(times[index], "x"), top: 1 });
  }
}

// A flat line lies in the middle, and no line touches the edge.
function padded(low, high) {
  if (low === null || high === null) return [0, 1];
  const room = high - low || Math.abs(low) * 0.1 || 1;
  return [low - room * 0.1, high + room * 0.1];
}
