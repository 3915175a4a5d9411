// Ping, rotate and revoke, from a list's row or a device's page.

import { noteCommand } from "./device-state.js";
import { withAgent } from "./fragments.js";
import { request } from "./live.js";
import { toast } from "./toast.js";

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-action]");
  const device = button?.closest("[data-device]");
  if (!device || button.getAttribute("aria-busy") === "true") return;
  if (button.dataset.action === "ping") ping(button, device);
  else if (button.dataset.action === "rotate" || button.dataset.action === "revoke") ask(button.dataset.action, device);
});

async function ping(button, device) {
  button.setAttribute("aria-busy", "true");
  try {
    const path = withAgent(`/devices/${encodeURIComponent(device.dataset.device)}/ping`);
    noteCommand(await (await request(path, { method: "POST" })).json());
  } catch (error) {
    button.removeAttribute("aria-busy");
    toast(`The ping was not sent. ${error.message}`, { level: "error" });
  }
}

/** One dialog serves all rows: what it is about is filled in when it opens, and nothing that comes in closes it. */
function ask(action, device) {
  const dialog = document.getElementById(`${action}-dialog`);
  const form = dialog.querySelector("form");
  form.reset();
  form.action = withAgent(`/devices/${encodeURIComponent(device.dataset.device)}/${action}`);
  for (const name of dialog.querySelectorAll("[data-device-name]")) name.textContent = device.dataset.name;
  dialog.showModal();
}

document.getElementById("revoke-dialog")?.querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const button = event.submitter;
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  try {
    const response = await request(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
    toast((await response.json()).message, { level: "good" });
    form.closest("dialog").close();
  } catch (error) {
    toast(`Nothing was revoked. ${error.message}`, { level: "error" });
  } finally {
    button.removeAttribute("aria-busy");
  }
});
