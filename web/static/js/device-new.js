// Adding a satellite: a handle is proposed from the name and checked by the server while one types.

import { withAgent } from "./fragments.js";
import { request } from "./live.js";

const WAIT_MS = 200;

const form = document.getElementById("new-device");
const { name, handle } = form.elements;
const verdict = document.getElementById("handle-verdict");
let typed = handle.value !== "";
let timer = 0;
let question = 0;

form.addEventListener("input", (event) => {
  if (event.target === handle) typed = handle.value !== "";
  if (event.target !== name && event.target !== handle) return;
  clearTimeout(timer);
  timer = setTimeout(ask, WAIT_MS);
});

async function ask() {
  const mine = ++question;
  const query = new URLSearchParams(typed ? { wanted: handle.value } : { name: name.value });
  try {
    const answer = await (await request(withAgent(`/devices/handle?${query}`))).json();
    if (mine !== question) return; // one has typed on
    if (!typed) handle.value = answer.handle;
    verdict.textContent = answer.problem ? `This handle ${says(answer.problem)}.` : answer.handle ? "This handle is free." : "";
    verdict.dataset.tone = answer.problem ? "bad" : "good";
    handle.setAttribute("aria-invalid", String(Boolean(answer.problem)));
  } catch {
    verdict.textContent = ""; // it is checked again when the form is sent
  }
}

function says(problem) {
  return problem.startsWith("is ") || problem.startsWith("needs ") ? problem : `must be ${problem}`;
}
