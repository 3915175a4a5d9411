// <button data-dialog="#id"> opens a dialog, data-close closes the one around it, and so does a click beside it.

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-dialog]");
  if (opener) document.querySelector(opener.dataset.dialog).showModal();
  else if (event.target.closest("[data-close]")) event.target.closest("dialog")?.close();
});

// Only where the press began beside the dialog too: dragging a selection out of a field must not close it.
let pressed = null;
document.addEventListener("pointerdown", (event) => {
  pressed = event.target;
});
document.addEventListener("click", (event) => {
  if (!(event.target instanceof HTMLDialogElement) || pressed !== event.target || "sticky" in event.target.dataset) return;
  const box = event.target.getBoundingClientRect();
  const inside = event.clientX >= box.left && event.clientX <= box.right && event.clientY >= box.top && event.clientY <= box.bottom;
  if (!inside) event.target.close();
});
