// Questions that are asked as one types: <form method="get" data-query="#answer"> puts the answer in place, and the
// question into the address, so that it can be passed on. Without scripts the form is an ordinary one.

import { fetchPage } from "./fragments.js";
import { refresh } from "./relative-time.js";
import { toast } from "./toast.js";

const WAIT_MS = 200;

const form = document.querySelector("form[data-query]");
let timer = 0;
let question = 0;

function address() {
  const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
  // Not form.action: that is the field of this name, where there is one.
  return form.getAttribute("action").split("?")[0] + (query.size > 0 ? `?${query}` : "");
}

async function ask() {
  clearTimeout(timer);
  const mine = ++question;
  const where = address();
  const answer = () => document.querySelector(form.dataset.query);
  answer().setAttribute("aria-busy", "true");
  try {
    const fresh = (await fetchPage(where)).querySelector(form.dataset.query);
    if (mine !== question) return; // one has typed on
    history.replaceState(null, "", where);
    answer().replaceWith(document.importNode(fresh, true));
    refresh(answer());
  } catch (error) {
    if (mine === question) toast(`There is no answer. ${error.message}`, { level: "error" });
  } finally {
    if (mine === question) answer().removeAttribute("aria-busy");
  }
}

// Only the fields that the chosen action has.
function showFields() {
  const action = form.elements.action?.value;
  for (const field of form.querySelectorAll("[data-for]")) {
    const hidden = !field.dataset.for.split(" ").includes(action);
    field.hidden = hidden;
    for (const input of field.querySelectorAll("input")) input.disabled = hidden;
  }
}

if (form) {
  showFields();
  form.addEventListener("input", () => {
    showFields();
    clearTimeout(timer);
    timer = setTimeout(ask, WAIT_MS);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
}
