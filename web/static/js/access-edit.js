// Edits that show whom they touch before they are saved: <form data-edit="/…/preview">, with data-check where what one
// types can be wrong. The button says Save only for what the preview in front of it shows.

import { request } from "./live.js";

const WAIT_MS = 250;

const form = document.querySelector("form[data-edit]");
const save = form?.querySelector("[data-save]");
let timer = 0;
let turn = 0;

const panel = () => document.getElementById("preview");

function body() {
  const fields = new URLSearchParams(new FormData(form));
  fields.delete("previewed");
  return fields;
}

function become(ready) {
  save.value = ready ? "save" : "preview";
  const word = ready ? save.dataset.word : "Preview";
  if (save.textContent !== word) save.textContent = word;
}

async function post(path, accept) {
  return request(path, { method: "POST", body: body(), accept });
}

async function look() {
  const mine = ++turn;
  panel().setAttribute("aria-busy", "true");
  try {
    if (form.dataset.check) {
      const { problems } = await (await post(form.dataset.check, "application/json")).json();
      if (mine !== turn) return;
      mark(problems);
    }
    const answer = await post(form.dataset.edit, "text/html");
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (mine !== turn) return; // one has typed on
    show(page.querySelector("[data-preview-shown]"));
  } catch (error) {
    if (mine !== turn) return;
    const said = document.createElement("p");
    said.textContent = `There is no preview: ${error.message}`;
    panel().replaceChildren(said);
  } finally {
    if (mine === turn) panel().removeAttribute("aria-busy");
  }
}

function show(fresh) {
  for (const details of fresh.querySelectorAll("details[data-key]")) {
    details.open = Boolean(panel().querySelector(`details[data-key="${CSS.escape(details.dataset.key)}"][open]`));
  }
  panel().replaceChildren(document.importNode(fresh, true));
  become(fresh.dataset.blocked === undefined && Boolean(panel().querySelector("[name=previewed]")));
}

/** Each problem at its field: "name", "about", "grants", or "grants.2.filter" for the third row. */
function mark(problems) {
  const said = new Map(problems.map(({ field, message }) => [place(field), message]));
  for (const element of form.querySelectorAll("[data-problem]")) {
    const message = said.get(element.id) ?? "";
    const words = element.querySelector("span");
    if (words.textContent !== message) words.textContent = message;
    element.hidden = !message;
    element.parentElement.classList.toggle("has-error", Boolean(message));
    const input = form.querySelector(`[aria-describedby="${CSS.escape(element.id)}"]`);
    if (message) input?.setAttribute("aria-invalid", "true");
    else input?.removeAttribute("aria-invalid");
  }
}

function place(field) {
  const [noun, index] = field.split(".");
  if (noun !== "grants" || index === undefined) return noun === "grants" ? "grants-problem" : `${fieldName(noun)}-problem`;
  return form.querySelectorAll("[data-grant]")[Number(index)]?.querySelector("[data-problem]").id;
}

function fieldName(noun) {
  return noun === "name" || noun === "about" ? `role-${noun}` : noun;
}

function changed() {
  turn += 1; // whatever is under way is about what stood here before
  become(false);
  clearTimeout(timer);
  timer = setTimeout(look, WAIT_MS);
}

if (form) {
  form.addEventListener("input", (event) => {
    if (event.target.dataset.narrow === undefined) changed();
  });
  form.addEventListener("marvain:edited", changed);
  addEventListener("pageshow", (event) => event.persisted && changed());
}

// A long list of devices to choose from, narrowed to those that match.
document.addEventListener("input", (event) => {
  if (event.target.dataset.narrow === undefined) return;
  const wanted = event.target.value.trim().toLowerCase();
  for (const choice of event.target.parentElement.querySelectorAll(".check")) {
    choice.hidden = wanted !== "" && !choice.textContent.toLowerCase().includes(wanted);
  }
});
