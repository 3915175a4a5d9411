// The theme: set before anything is painted, kept on this device alone.
(() => {
  "use strict";
  const key = "marvain-theme";
  const root = document.documentElement;

  const stored = () => {
    try {
      return localStorage.getItem(key) || "system";
    } catch {
      return "system";
    }
  };

  const apply = (theme) => {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
  };

  apply(stored());

  document.addEventListener("DOMContentLoaded", () => {
    for (const input of document.querySelectorAll("[data-theme-switch] input")) input.checked = input.value === stored();
  });

  document.addEventListener("change", (event) => {
    if (!event.target.closest("[data-theme-switch]")) return;
    try {
      localStorage.setItem(key, event.target.value);
    } catch {
      // Without storage the choice holds for this page.
    }
    apply(event.target.value);
  });

  // Another tab chose.
  addEventListener("storage", (event) => {
    if (event.key === key) apply(stored());
  });
})();
