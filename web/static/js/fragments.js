// Pieces of a page that the server made (escaped there): fetched, and put in place with as little change as possible.

import { agent, request } from "./live.js";

/** The path with the agent of this page, so that another tab's choice of agent does not count here. */
export function withAgent(path) {
  return agent ? `${path}${path.includes("?") ? "&" : "?"}agent=${encodeURIComponent(agent)}` : path;
}

/** A whole page or a piece of one, parsed but not shown: nothing in it runs. */
export async function fetchPage(path) {
  const response = await request(path);
  return new DOMParser().parseFromString(await response.text(), "text/html");
}

/** The rows of a piece: the children of its `[data-rows]`. */
export async function fetchRows(path) {
  return [...(await fetchPage(path)).querySelector("[data-rows]").children];
}

/**
 * Make `current` say what `fresh` says: only the `[data-part]` elements that differ are replaced, so focus, selection
 * and open details elsewhere stay; inside a replaced part the focus goes to the control of the same name.
 */
export function morphParts(current, fresh) {
  for (const { name, value } of fresh.attributes) {
    if (current.getAttribute(name) !== value) current.setAttribute(name, value);
  }
  for (const part of fresh.querySelectorAll("[data-part]")) {
    const old = current.querySelector(`[data-part="${CSS.escape(part.dataset.part)}"]`);
    if (!old || bare(old).isEqualNode(bare(part)) || isTypedIn(old)) continue;
    const focused = old.contains(document.activeElement) ? focusName(document.activeElement) : null;
    for (const details of part.querySelectorAll("details[data-key]")) {
      details.open ||= Boolean(old.querySelector(`details[data-key="${CSS.escape(details.dataset.key)}"][open]`));
    }
    const replacement = document.importNode(part, true);
    old.replaceWith(replacement);
    if (focused) replacement.querySelector(focused)?.focus({ preventScroll: true });
  }
}

// What somebody is typing, or has typed and not sent, is never taken from under them.
function isTypedIn(part) {
  return [...part.querySelectorAll("input, textarea, select")].some(
    (field) =>
      field === document.activeElement ||
      (field.matches("[type=checkbox], [type=radio]") && field.checked !== field.defaultChecked) ||
      (field.matches("textarea, input:not([type=checkbox], [type=radio], [type=hidden])") && field.value !== field.defaultValue) ||
      (field.matches("select") && [...field.options].some((option) => option.selected !== option.defaultSelected && field.selectedIndex > 0)),
  );
}

// Without what this page wrote itself: the words of times, which tick.
function bare(part) {
  const copy = part.cloneNode(true);
  for (const time of copy.querySelectorAll("time")) {
    time.textContent = "";
    for (const name of ["title", "data-titled", "data-shown"]) time.removeAttribute(name);
  }
  return copy;
}

function focusName(element) {
  if (element.dataset.action) return `[data-action="${CSS.escape(element.dataset.action)}"]`;
  const href = element.getAttribute("href");
  return href ? `a[href="${CSS.escape(href)}"]` : "button, a, summary";
}
