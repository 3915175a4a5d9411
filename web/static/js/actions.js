// The list of actions: kept live, decided in a dialog, and moved through by keys.

import { throttled } from "./coalesce.js";
import { fetchPage, morphParts, withAgent } from "./fragments.js";
import { onFeed, onReset, request } from "./live.js";
import { refresh } from "./relative-time.js";
import { toast } from "./toast.js";

const INTERVAL_MS = 250;
const RETRY_MS = 3000;

const place = document.querySelector("#action-list");
const dialog = document.querySelector("#decide-dialog");
const form = dialog.querySelector("[data-decide-form]");
const problem = form.querySelector("[data-decide-error]");
const LABELS = { approve: "Approve", reject: "Reject" };

let chosen = null; // {id, what}: what the dialog is about

const bringUpToDate = throttled(async () => {
  try {
    const fresh = (await fetchPage(withAgent(location.pathname + location.search))).querySelector("#action-list");
    if (!fresh) return;
    const current = document.activeElement?.closest?.("[data-action-id]")?.dataset.actionId;
    morphParts(place, fresh);
    refresh(place);
    if (current && !place.contains(document.activeElement)) cardOf(current)?.focus({ preventScroll: true });
  } catch (error) {
    console.warn("actions: will be fetched again", error);
    setTimeout(bringUpToDate, RETRY_MS);
  }
}, INTERVAL_MS);

onFeed("actions.updated", (items) => {
  bringUpToDate();
  // Somebody was quicker while the dialog is open: say so instead of taking it away.
  const mine = chosen && items.find((item) => item.action_id === chosen.id && item.status !== "proposed");
  if (mine && dialog.open) complain(`It is ${mine.status} already.`);
});
onReset(bringUpToDate);

function cardOf(id) {
  return place.querySelector(`[data-action-id="${CSS.escape(id)}"]`);
}

function complain(words) {
  problem.hidden = !words;
  problem.querySelector("span").textContent = words;
}

function open(card, what) {
  chosen = { id: card.dataset.actionId, what };
  dialog.querySelector("h2").textContent = `${LABELS[what]} this?`;
  form.querySelector("[data-decide-what]").textContent = card.querySelector(".action-sentence").textContent;
  form.elements.digest.value = card.dataset.digest;
  form.elements.reason.value = "";
  const button = form.querySelector("[data-decide-do]");
  button.textContent = LABELS[what];
  button.classList.toggle("danger", what === "reject");
  button.disabled = false;
  complain("");
  dialog.showModal();
  form.elements.reason.focus();
}

place.addEventListener("click", (event) => {
  const button = event.target.closest("[data-decide]");
  if (button) open(button.closest("[data-action-id]"), button.dataset.decide);
});

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("[data-decide-do]");
  const { id, what } = chosen;
  button.disabled = true;
  try {
    const body = { reason: form.elements.reason.value };
    if (what === "approve") body.digest = form.elements.digest.value;
    await request(withAgent(`/api/actions/${encodeURIComponent(id)}/${what}`), { method: "POST", body });
    dialog.close();
    toast(what === "approve" ? "Your yes counts." : "It is rejected.", { level: "good" });
    bringUpToDate();
  } catch (error) {
    complain(error.message);
    button.disabled = false;
    bringUpToDate();
  }
});

// Keys: never while somebody types, and never with another key held.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || dialog.open || event.target.closest("input, textarea, select")) return;
  const cards = [...place.querySelectorAll("[data-action-id]")];
  if (!cards.length) return;
  const at = cards.indexOf(document.activeElement?.closest?.("[data-action-id]"));
  if (event.key === "j" || event.key === "k") {
    const next = at < 0 ? 0 : Math.min(cards.length - 1, Math.max(0, at + (event.key === "j" ? 1 : -1)));
    cards[next].focus();
    event.preventDefault();
  } else if ((event.key === "a" || event.key === "r") && at >= 0) {
    const what = event.key === "a" ? "approve" : "reject";
    if (cards[at].querySelector(`[data-decide="${what}"]`)) open(cards[at], what);
    event.preventDefault();
  }
});
