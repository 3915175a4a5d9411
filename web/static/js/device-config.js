// The values of a config: rows that come and go, the same as JSON, and what is wrong with them while one types.

import { withAgent } from "./fragments.js";
import { request } from "./live.js";

const WAIT_MS = 250;

const form = document.querySelector("form[data-config]");
const rows = form?.querySelector("[data-rows-of=config]");
let timer = 0;
let turn = 0;

function valueOf(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text.trim();
  }
}

function shown(value) {
  if (typeof value === "string" && value !== "" && value === value.trim() && valueOf(value) === value) return value;
  return JSON.stringify(value);
}

function rowOf(key, value) {
  const row = rows.querySelector(".config-row").cloneNode(true);
  row.querySelector("[name=key]").value = key;
  row.querySelector("[name=value]").value = value;
  return row;
}

function typed() {
  const values = {};
  for (const row of rows.querySelectorAll(".config-row")) {
    const key = row.querySelector("[name=key]").value.trim();
    if (key) values[key] = valueOf(row.querySelector("[name=value]").value);
  }
  return values;
}

// What stands in the one form is carried over to the other; JSON that cannot be read stays where it is.
function carry(mode) {
  if (mode === "json") {
    form.elements.values.value = JSON.stringify(typed(), null, 2);
    return;
  }
  let values;
  try {
    values = JSON.parse(form.elements.values.value || "{}");
  } catch {
    return;
  }
  if (values === null || typeof values !== "object" || Array.isArray(values)) return;
  const made = Object.entries(values).map(([key, value]) => rowOf(key, shown(value)));
  made.push(rowOf("", ""));
  for (const row of rows.querySelectorAll(".config-row")) row.remove();
  rows.prepend(...made);
}

async function check() {
  const mine = ++turn;
  try {
    const body = new URLSearchParams(new FormData(form));
    const answer = await request(withAgent(new URL(form.dataset.config, location.href).pathname), { method: "POST", body });
    const { problems } = await answer.json();
    if (mine === turn) say(problems[0]);
  } catch {
    if (mine === turn) say(null); // it is checked again when the form is sent
  }
}

function say(problem) {
  const place = form.querySelector("[data-problem=values]");
  const key = problem?.field.startsWith("values.") ? problem.field.slice("values.".length) : "";
  place.querySelector("span").textContent = problem ? `${key ? `${key}: ` : ""}${problem.message}` : "";
  place.hidden = !problem;
  for (const input of form.querySelectorAll("[name=key], [name=values]")) {
    const isMeant = problem && (input.name === "values" ? form.elements.mode.value === "json" : input.value.trim() === key && key);
    if (isMeant) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
  }
}

if (form) {
  form.addEventListener("input", (event) => {
    if (event.target.name === "mode") carry(event.target.value);
    clearTimeout(timer);
    timer = setTimeout(check, WAIT_MS);
  });
  form.addEventListener("click", (event) => {
    if (event.target.closest("[data-add-row]")) {
      const added = rowOf("", "");
      rows.querySelector("[data-add-row]").before(added);
      added.querySelector("input").focus();
    }
    const remove = event.target.closest("[data-remove-row]");
    if (!remove) return;
    const all = rows.querySelectorAll(".config-row");
    if (all.length === 1) rows.prepend(rowOf("", ""));
    remove.closest(".config-row").remove();
    rows.querySelector(".config-row:last-of-type input")?.focus();
    check();
  });
}
