// Pieces of a page that the server made (escaped there): fetched, and put in place with as little change as possible.

import { request } from "./live.js";

/** The elements at the top of a fragment. A template element parses rows outside a table and runs no script. */
export async function fetchElements(path) {
  const response = await request(path, { accept: "text/html" });
  const template = document.createElement("template");
  template.innerHTML = await response.text();
  return [...template.content.children];
}

/** The whole page at `path`, parsed but not shown. */
export async function fetchPage(path) {
  const response = await request(path, { accept: "text/html" });
  return new DOMParser().parseFromString(await response.text(), "text/html");
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
    if (!old || old.isEqualNode(part)) continue;
    const focused = old.contains(document.activeElement) ? focusName(document.activeElement) : null;
    for (const details of part.querySelectorAll("details[data-key]")) {
      details.open ||= Boolean(old.querySelector(`details[data-key="${CSS.escape(details.dataset.key)}"][open]`));
    }
    const replacement = document.importNode(part, true);
    old.replaceWith(replacement);
    if (focused) replacement.querySelector(focused)?.focus({ preventScroll: true });
  }
}

function focusName(element) {
  if (element.dataset.action) return `[data-action="${CSS.escape(element.dataset.action)}"]`;
  const href = element.getAttribute("href");
  return href ? `a[href="${CSS.escape(href)}"]` : "button, a, summary";
}
