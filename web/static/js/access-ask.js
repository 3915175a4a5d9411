// Questions before something is done: a link with data-ask opens its page's question as a dialog in place. A question
// with data-stay is answered in place too.

import { fetchPage } from "./fragments.js";
import { request } from "./live.js";
import { refresh } from "./relative-time.js";
import { toast } from "./toast.js";

let asking = false;

document.addEventListener("click", async (event) => {
  const link = event.target.closest("a[data-ask]");
  if (!link || asking || event.ctrlKey || event.metaKey || event.shiftKey) {
    if (link && asking) event.preventDefault();
    return;
  }
  event.preventDefault();
  asking = true;
  const address = link.href;
  const focusBack = link.getAttribute("href");
  try {
    const question = (await fetchPage(address)).querySelector("[data-question]");
    if (question) open(question, focusBack);
    else location.assign(address);
  } catch {
    // The link leads to the same question as a page, which says what is wrong better than a toast could.
    location.assign(address);
  } finally {
    asking = false;
  }
});

function open(question, focusBack) {
  const dialog = document.createElement("dialog");
  dialog.className = "question";
  dialog.append(document.importNode(question, true));
  const title = dialog.querySelector("h2");
  title.id = "question-title";
  dialog.setAttribute("aria-labelledby", title.id);
  dialog.addEventListener("click", (event) => {
    // Here the way back is to close; on the page of its own it is a link.
    if (event.target.closest("a[data-close]")) event.preventDefault();
  });
  dialog.addEventListener("close", () => {
    dialog.remove();
    // The row may have been patched meanwhile: the same link, not the same element.
    document.querySelector(`a[data-ask][href="${CSS.escape(focusBack)}"]`)?.focus();
  });
  const form = dialog.querySelector("form");
  if (question.dataset.stay !== undefined) form.addEventListener("submit", (event) => answer(event, dialog));
  document.body.append(dialog);
  dialog.showModal();
  refresh(dialog);
}

async function answer(event, dialog) {
  event.preventDefault();
  const form = event.target;
  const button = event.submitter;
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  try {
    const response = await request(form.getAttribute("action"), { method: "POST", body: new URLSearchParams(new FormData(form)) });
    toast((await response.json()).message, { level: "good" });
    dialog.close();
  } catch (error) {
    button.removeAttribute("aria-busy");
    toast(error.message, { level: "error" });
  }
}
