// What every page has: times, toasts, copy buttons, dialogs, forms.

import "./clock.js";
import "./toast.js";
import "./copy.js";
import "./dialog.js";
import "./forms.js";
import "./relative-time.js";
