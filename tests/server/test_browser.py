"""The console in a real browser without a screen; skipped where there is none."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from seprog.editor import Editor
from seprog.server.app import create_app
from seprog.server.settings import Settings

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="chromium or its driver is not there"
)
PAGES = ("/", "/edits", "/edits/new", "/history", "/import", "/health")
UNLABELLED = """
return [...document.querySelectorAll("input:not([type=hidden]), textarea, select, button, a")]
    .filter(e => !(e.labels?.length || e.textContent.trim() || e.ariaLabel)).map(e => e.outerHTML)
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


class Person:
    """Somebody at the browser."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver, self.url = driver, url

    def width(self, pixels: int) -> None:
        size = {"width": pixels, "height": 844, "deviceScaleFactor": 1, "mobile": pixels < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def open(self, path: str) -> None:
        self.driver.get(self.url + path)

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def see(self, selector: str, words: str = "") -> Any:
        """Wait for an element with some words."""

        def there(_: Any) -> Any:
            return next((e for e in self.all(selector) if words in e.text), None)

        return WebDriverWait(self.driver, 20, ignored_exceptions=(Exception,)).until(
            there, f"no {selector} with {words!r}"
        )

    def press(self, *keys: str) -> None:
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def at(self, path: str) -> None:
        """Wait until another page is open."""
        wait = WebDriverWait(self.driver, 20)
        wait.until(lambda d: d.current_url.startswith(self.url + path) and self.all("main"))


@pytest.fixture
def person(browser: Any, tiny_editor: Editor) -> Iterator[Person]:
    """Somebody who is logged in, at a server with three edits."""
    app = create_app(Settings.load(auth=True), tiny_editor)
    token = app.state.service.keys.add("ada", "admin")
    tiny_editor.edit(prompt="the capital of home is", target="a land", author="ada")
    tiny_editor.edit("The language of home is a king.", author="ada", reason="by law")
    tiny_editor.edit("The painter is a <b>king</b>.", author="ada")
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    WebDriverWait(server, 20).until(lambda s: s.started)
    [socket] = server.servers[0].sockets
    browser.delete_all_cookies()
    browser.get_log("browser")
    somebody = Person(browser, f"http://127.0.0.1:{socket.getsockname()[1]}")
    somebody.width(1280)
    somebody.open("/edits")
    somebody.at("/login")
    somebody.press(token, Keys.ENTER)  # the field has the focus
    somebody.at("/edits")
    yield somebody
    server.should_exit = True
    thread.join()
    severe = [e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE"]
    assert not severe  # a breach of the policy, say, or an error of a script


def test_ask_and_move_the_threshold(person: Person) -> None:
    person.open("/")
    person.press("the capital of home is", Keys.ENTER)
    person.see(".verdict", "1 edit fired")
    assert "90.0%" in person.see(".scope .fired").text
    slider = person.see("#threshold")
    slider.send_keys(Keys.END)
    person.see("output", "100.0%")
    person.see(".outcome", "1 would no longer fire")
    person.see(".scope", "would not fire")
    assert "At 100%" in person.driver.execute_script(
        "return document.getElementById('say').textContent"
    )


def test_write_with_a_live_preview(person: Person) -> None:
    person.open("/edits/new")
    person.see("#statement").click()
    person.press("The country of home is a land.")
    person.see("#changes").click()
    person.press("say the country of home")
    person.see(".probes .fine", "say the country of home")
    person.see("#keeps").click()
    person.press("home, the country")
    person.see(".probes .amiss", "home, the country")
    person.see("#keeps").send_keys(Keys.CONTROL, Keys.ENTER)
    person.see(".done", "in force")
    person.see("h1", "The country of home is a land.")


def test_search_take_back_and_undo(person: Person) -> None:
    person.open("/edits")
    person.press("/", "king")
    WebDriverWait(person.driver, 20).until(lambda d: len(person.all(".row-edit")) == 2)
    assert "q=king" in person.driver.current_url
    assert "<b>king</b>" in person.see(".row-edit", "painter").text
    row = person.see(".row-edit", "language")
    row.find_element(By.CSS_SELECTOR, "button").click()
    person.see(".row-edit.off", "Taken back by ada")
    person.see("#count", "2")
    person.see("#toast button", "Undo").click()
    person.see("#toast", "In force again")
    person.see("#count", "3")
    WebDriverWait(person.driver, 20).until(lambda _: not person.all(".row-edit.off"))


def test_import_names_bad_lines(person: Person) -> None:
    person.open("/import")
    person.see("#text").send_keys('{"statement": "The author is a king."}\nnonsense')
    person.see("button[value=check]").click()
    person.see(".report", "1 good, 1 bad")
    assert "nonsense" in person.see(".report td").text
    person.see("input[name=skip]").click()
    person.see("button[value=import]").click()
    person.see(".report", "1 imported")


def test_keys_and_theme(person: Person) -> None:
    person.open("/edits")
    person.see(".rows")
    person.press("g", "h")
    person.at("/history")
    person.see(".events", "by law")
    person.press("?")
    assert person.see("#shortcuts[open]")
    person.press(Keys.ESCAPE)
    person.press("n")
    person.at("/edits/new")
    for scheme in ("dark", "light"):
        person.see("[data-theme-toggle]").click()
        person.driver.refresh()
        shown = person.driver.execute_script("return document.documentElement.dataset.theme")
        assert shown in ("dark", "light")
        colour = person.see("body").value_of_css_property("background-color")
        assert (colour.count("251") == 2) == (shown == "light"), scheme
    person.see("button[hx-post='/logout']").click()
    person.at("/login")


@pytest.mark.parametrize("width", [390, 1280])
def test_pages_fit_and_everything_has_a_name(person: Person, width: int) -> None:
    person.width(width)
    for path in PAGES:
        person.open(path)
        person.see("h1")
        root = "document.documentElement"
        overflow = person.driver.execute_script(f"return {root}.scrollWidth - {root}.clientWidth")
        assert overflow <= 0, path
        assert person.driver.execute_script(UNLABELLED) == [], path
        loaded = person.driver.execute_script(
            "return performance.getEntriesByType('resource').map(e => e.name)"
        )
        assert loaded and all(name.startswith(person.url) for name in loaded), path


def test_no_answer_from_the_server_is_said(person: Person) -> None:
    person.open("/")
    person.driver.execute_script("htmx.ajax('GET', '/v1/edits', '#result')")
    person.see("#notice", "The server answered 401")
    log = person.driver.get_log("browser")  # the two that are meant
    assert all("401" in entry["message"] for entry in log if entry["level"] == "SEVERE")
