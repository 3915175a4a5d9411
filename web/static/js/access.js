// The pages of access and integrations: each part looks for its own elements and rests where there are none.

import "./access-ask.js";
import "./access-denials.js";
import "./access-edit.js";
import "./access-grants.js";
import "./access-query.js";
import "./access-sessions.js";

// On a phone the row of tabs is wider than the screen: the one that is open is in sight.
document.querySelector(".tabs [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
