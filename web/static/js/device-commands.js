// Sending a command without leaving the page, faults at their fields, and taking back what waits.

import { withAgent } from "./fragments.js";
import { request } from "./live.js";
import { toast } from "./toast.js";

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.matches("form[data-send]")) send(event, form);
  else if (form.matches("form[data-cancel]")) cancel(event, form);
}, true);

async function post(form, button) {
  button?.setAttribute("aria-busy", "true");
  try {
    const answer = await request(withAgent(new URL(form.action).pathname), {
      method: "POST",
      body: new URLSearchParams(new FormData(form)),
    });
    return await answer.json();
  } finally {
    button?.removeAttribute("aria-busy");
  }
}

async function send(event, form) {
  event.preventDefault();
  event.stopPropagation(); // one submission at a time is this module's business here
  if (event.submitter?.getAttribute("aria-busy") === "true") return;
  mark(form, "", "");
  try {
    const { message } = await post(form, event.submitter);
    form.dataset.done = "";
    for (const box of form.querySelectorAll("[name=confirmed]")) box.checked = false;
    toast(message, { level: "good" });
  } catch (error) {
    if (error.status === 422) mark(form, error.problem.field ?? "args", error.message);
    else toast(`Nothing was sent. ${error.message}`, { level: "error" });
  }
}

async function cancel(event, form) {
  event.preventDefault();
  event.stopPropagation();
  if (event.submitter?.getAttribute("aria-busy") === "true") return;
  try {
    toast((await post(form, event.submitter)).message, { level: "good" });
  } catch (error) {
    toast(error.message, { level: "error" });
  }
}

/** Say what is wrong at the field that is meant, or above all fields when it has no input of its own. */
function mark(form, field, message) {
  for (const place of form.querySelectorAll("[data-problem]")) {
    place.hidden = true;
    place.closest(".field")?.classList.remove("has-error");
  }
  for (const input of form.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
  if (!message) return;
  const places = [...form.querySelectorAll("[data-problem]")];
  const place =
    places.find((one) => one.dataset.problem === field) ??
    places.find((one) => one.dataset.problem !== "args" && field.startsWith(`${one.dataset.problem}.`)) ??
    places.find((one) => one.dataset.problem === "args");
  const inside = place.dataset.problem === "args" && field !== "args" ? `${field.replace(/^args\./, "")}: ` : "";
  place.querySelector("span").textContent = inside + message;
  place.hidden = false;
  const holder = place.closest(".field");
  holder?.classList.add("has-error");
  const input = (holder ?? form).querySelector("input:not([type=hidden]), select, textarea");
  input?.setAttribute("aria-invalid", "true");
  input?.focus();
}

// What it can do may change with a hello: shown at once, unless somebody is at work on one of the forms.
document.addEventListener("marvain:fresh", ({ detail }) => {
  const old = document.getElementById("send");
  const fresh = detail.querySelector("#send");
  if (!old || !fresh || old.dataset.verbs === fresh.dataset.verbs || old.querySelector("details[open]")) return;
  old.replaceWith(document.importNode(fresh, true));
});
