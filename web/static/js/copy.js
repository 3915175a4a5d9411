// <button data-copy="#id">: copies the text of the element, or the value of a field.

import { toast } from "./toast.js";

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.querySelector(button.dataset.copy);
  const text = "value" in source ? source.value : source.textContent;
  if (await copy(text, source)) toast("Copied.", { level: "good", seconds: 2 });
  else toast("This browser does not let pages copy here. The text is selected: press Ctrl+C.", { level: "info" });
});

async function copy(text, source) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Over plain HTTP from another machine there is no clipboard API; the old way still works there.
    getSelection().selectAllChildren(source);
    return document.execCommand("copy");
  }
}
