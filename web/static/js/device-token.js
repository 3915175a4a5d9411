// The page that shows a new token: says by itself when the satellite has come.

import "./device-state.js";
import { onFeed } from "./live.js";

const waiting = document.querySelector("main [data-device]");

onFeed("presence.updated", (items) => {
  if (items.some((item) => item.device_id === waiting.dataset.device && item.presence === "online")) {
    delete waiting.dataset.waiting; // from here on its presence is shown as it is
    document.getElementById("arrived").hidden = false;
  }
});
