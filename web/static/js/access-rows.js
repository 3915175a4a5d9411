// Rows that are brought up to date in place: what is open, focused or selected stays so.

import { morphParts } from "./fragments.js";
import { refresh } from "./relative-time.js";

/** Make the `[data-rows]` of `current` hold what those of `fresh` hold; rows are told apart by `data-row`. */
export function patchRows(current, fresh) {
  const list = current.querySelector("[data-rows]");
  const wanted = [...fresh.querySelector("[data-rows]").children];
  const shown = new Map([...list.children].map((row) => [row.dataset.row, row]));
  const keys = new Set(wanted.map((row) => row.dataset.row));
  for (const [key, row] of shown) if (!keys.has(key)) row.remove();
  let place = list.firstElementChild;
  for (const row of wanted) {
    const old = shown.get(row.dataset.row);
    if (old) morphParts(old, row);
    if (old && old === place) {
      place = place.nextElementSibling;
      continue;
    }
    if (old) {
      // A row that holds the focus is not moved: moving would take it away.
      if (!old.contains(document.activeElement)) list.insertBefore(old, place);
      continue;
    }
    const added = document.importNode(row, true);
    added.classList.add("changed");
    list.insertBefore(added, place);
  }
  const some = list.children.length > 0;
  for (const element of current.querySelectorAll("[data-when-some]")) element.hidden = !some;
  for (const element of current.querySelectorAll("[data-when-none]")) element.hidden = some;
  refresh(list);
}
