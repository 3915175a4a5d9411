// The rows of a role's grants: added and removed in place, by mouse or keyboard (Enter adds the next row).

const list = document.getElementById("grants");
let made = 0;

function number(row) {
  const index = `n${(made += 1)}`;
  for (const element of row.querySelectorAll("[id], [for], [aria-describedby]")) {
    for (const name of ["id", "for", "aria-describedby"]) {
      const value = element.getAttribute(name);
      if (value) element.setAttribute(name, value.replace("grant-new-", `grant-${index}-`));
    }
  }
}

function add(after = null) {
  const row = document.importNode(document.getElementById("grant-template").content.firstElementChild, true);
  number(row);
  if (after) after.after(row);
  else list.append(row);
  row.querySelector("[data-input=action]").value = after?.querySelector("[data-input=action]").value ?? "publish";
  row.querySelector("[data-input=filter]").focus();
}

function remove(row) {
  const next = row.nextElementSibling ?? row.previousElementSibling;
  row.remove();
  (next?.querySelector("[data-input=filter]") ?? document.querySelector("[data-add]")).focus();
  list.dispatchEvent(new CustomEvent("marvain:edited", { bubbles: true }));
}

if (list && document.getElementById("grant-template")) {
  const form = list.closest("form");
  form.addEventListener("click", (event) => {
    if (event.target.closest("[data-add]")) {
      event.preventDefault();
      add();
    }
    const gone = event.target.closest("[data-remove]");
    if (gone) {
      event.preventDefault();
      remove(gone.closest("[data-grant]"));
    }
  });
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing || event.target.dataset.input !== "filter") return;
    event.preventDefault();
    if (event.target.value.trim()) add(event.target.closest("[data-grant]"));
  });
}
