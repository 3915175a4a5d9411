"""The order of changes in a page, apart from any connection: `js/feed.js` alone in a real browser."""

import base64
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

pytestmark = pytest.mark.browser
SOURCE = Path(__file__).parents[3] / "web/static/js/feed.js"

RECONNECT = """async (module) => {
  const { FeedCursor } = await import(module);
  const delivered = [];
  const answers = [];
  const cursor = new FeedCursor(0, {
    fetchSince: () => new Promise((resolve) => answers.push(resolve)),
    deliver: (message) => delivered.push(message.rev),
    busy: () => {},
    reset: () => {},
  });
  const first = cursor.catchUp();
  cursor.close(); // the connection broke while the answer was on its way
  const second = cursor.catchUp();
  answers[0]({ rev: 0, messages: [], reset: false }); // from before the new subscription: it knows nothing of 1
  await first;
  answers[1]?.({ rev: 1, messages: [{ rev: 1, type: "events.new" }], reset: false });
  await second;
  return delivered;
}"""


def test_an_answer_from_before_a_reconnect_hides_no_change():
    module = "data:text/javascript;base64," + base64.b64encode(SOURCE.read_bytes()).decode()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        assert page.evaluate(RECONNECT, module) == [1]
        browser.close()
