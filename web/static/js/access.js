// The pages of access and integrations: each part looks for its own elements and rests where there are none.

import "./access-ask.js";
import "./access-denials.js";
import "./access-edit.js";
import "./access-grants.js";
import "./access-query.js";
import "./access-sessions.js";
