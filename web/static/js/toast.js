// Short messages in the corner: from modules (import toast), from htmx answers (HX-Trigger "marvain:toast"), and from
// the page before a redirect (a cookie that is read once). Always set as text.

const COOKIE = "marvain_toast";
const MOST = 4;

/** Show `message`; level is info, good or error. Errors stay until they are closed. Returns the element. */
export function toast(message, { level = "info", seconds = 6 } = {}) {
  const region = document.getElementById("toasts");
  // A message that is shown already is shown anew, not twice.
  for (const old of region.children) if (old.dataset.text === message) old.remove();
  while (region.children.length >= MOST) region.firstElementChild.remove();

  const box = document.createElement("div");
  box.className = "toast";
  box.dataset.level = level;
  box.dataset.text = message;
  if (level === "error") box.setAttribute("role", "alert");
  const text = document.createElement("p");
  text.textContent = message;
  const close = document.createElement("button");
  close.type = "button";
  close.className = "icon-button";
  close.setAttribute("aria-label", "Close this message");
  close.textContent = "×";
  close.addEventListener("click", () => box.remove());
  box.append(text, close);
  region.append(box);

  if (level !== "error") {
    let timer = setTimeout(() => box.remove(), seconds * 1000);
    const hold = () => clearTimeout(timer);
    const release = () => {
      clearTimeout(timer);
      timer = setTimeout(() => box.remove(), 3000);
    };
    box.addEventListener("pointerenter", hold);
    box.addEventListener("focusin", hold);
    box.addEventListener("pointerleave", release);
    box.addEventListener("focusout", release);
  }
  return box;
}

function showCarried() {
  const entry = document.cookie.split("; ").find((part) => part.startsWith(`${COOKIE}=`));
  if (!entry) return;
  document.cookie = `${COOKIE}=; Max-Age=0; Path=/; SameSite=Lax`;
  try {
    const { message, level } = JSON.parse(decodeURIComponent(entry.slice(COOKIE.length + 1)));
    if (typeof message === "string") toast(message, { level: String(level) });
  } catch {
    // Not one of ours: nothing to show.
  }
}

document.addEventListener("marvain:toast", ({ detail }) => toast(String(detail.message), { level: detail.level }));
document.addEventListener("htmx:sendError", () => toast("The hub does not answer. Nothing was changed.", { level: "error" }));
document.addEventListener("htmx:timeout", () => toast("The hub took too long to answer.", { level: "error" }));
showCarried();
