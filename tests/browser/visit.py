"""A visit to the page in Chromium, and what went wrong on it."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import skimage.data
from PIL import Image

from tests.app.pictures import encoded

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, FileChooser, FilePayload, Page

PATIENCE_MS = 20_000
# Chromium reports answers of 400 and above as errors on its console; those are expected.
_ANSWERS = "Failed to load resource"
_NOTE_VIOLATIONS = (
    "document.addEventListener('securitypolicyviolation',"
    " event => console.error('policy violated: ' + event.violatedDirective))"
)


@contextmanager
def chromium() -> Iterator["Browser"]:
    """Debian's Chromium without any request of its own; skips where it or Playwright is missing."""
    api = pytest.importorskip(
        "playwright.sync_api", reason="needs Playwright: pip install playwright"
    )
    program = shutil.which("chromium")
    if not program:
        pytest.skip("needs the program chromium: apt-get install chromium")
    quiet = ("background-networking", "component-update", "sync")
    flags = ["--no-sandbox", "--disable-gpu", *(f"--disable-{name}" for name in quiet)]
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """A page of the service; ``errors`` of its console and scripts, ``requests`` it made."""

    page: "Page"
    url: str
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.add_init_script(_NOTE_VIOLATIONS)

    def _on_console(self, message: "ConsoleMessage") -> None:
        if message.type in {"error", "warning"} and not message.text.startswith(_ANSWERS):
            self.errors.append(message.text)

    def open(self, path: str = "/") -> "Visit":
        """Goes to the page and waits until the service is ready."""
        self.page.goto(self.url + path)
        if path == "/":
            self.page.locator("#service[data-state=ready]").wait_for()
        return self

    def choose(self, *files: "FilePayload", wait: bool = True) -> None:
        """Chooses files, as the button does, and waits for their scores."""
        self.page.set_input_files("#files", list(files))
        if wait:
            self.settle()

    def settle(self) -> None:
        """Waits until every image has its scores or its problem."""
        self.page.locator("body[data-busy=false]:not([data-holds=none])").wait_for()

    def until(self, condition: str | Callable[[], object]) -> None:
        """Waits until an expression in the page, or one here, is true.

        Playwright's own way would need eval in the page, which the policy keeps out.
        """
        for _ in range(PATIENCE_MS // 50):
            if self.page.evaluate(condition) if isinstance(condition, str) else condition():
                return
            self.page.wait_for_timeout(50)
        pytest.fail(f"this did not come true: {condition}")

    def file_choosers(self) -> list["FileChooser"]:
        """The file dialogs that open from now on, filled while the page is waited for.

        To be asked for well before the dialog: Chromium may take a key press before the wish to be
        told of dialogs, so ``expect_file_chooser`` around the press misses some.
        """
        opened: list[FileChooser] = []
        self.page.on("filechooser", lambda chooser: opened.append(chooser))
        return opened

    def generated(self, prompt: str = "") -> None:
        """Says that images are generated ones, and from what."""
        self.page.get_by_role("radio", name="Generated").check()
        self.page.fill("#prompt", prompt)

    def text(self, selector: str) -> str:
        """The text of one element.

        Not the visible one: a card just moved has none before the next frame (content-visibility).
        """
        return self.page.locator(selector).text_content() or ""

    def names(self) -> list[str]:
        """Names on the cards of the gallery, in order."""
        return self.page.locator(".card .name").all_text_contents()

    def tab_to(self, selector: str, most: int = 80) -> None:
        """Presses Tab until an element has the focus."""
        for _ in range(most):
            if self.page.evaluate("s => document.activeElement.matches(s)", selector):
                return
            self.page.keyboard.press("Tab")
        pytest.fail(f"the Tab key does not reach {selector}")

    def violations(self, axe: Any) -> list[str]:
        """Serious and critical findings of axe-core in the state that the page is in."""
        found = axe.run(self.page).response["violations"]
        grave = [each for each in found if each["impact"] in {"serious", "critical"}]
        return [f"{v['id']}: {[node['html'] for node in v['nodes']]}" for v in grave]


def photograph(which: int, size: tuple[int, int] = (320, 260)) -> Image.Image:
    """A small photograph; four in all, of unlike quality."""
    make = (skimage.data.coffee, skimage.data.rocket, skimage.data.chelsea, skimage.data.astronaut)
    return Image.fromarray(make[which % 4]()).resize(size)


def upload(
    name: str, which: int = 0, form: str = "PNG", size: tuple[int, int] = (320, 260)
) -> "FilePayload":
    """A file as the browser's dialog would give it."""
    return payload(name, f"image/{form.lower()}", encoded(photograph(which, size), form))


def payload(name: str, mime_type: str, content: bytes) -> "FilePayload":
    return {"name": name, "mimeType": mime_type, "buffer": content}


def hand_over(page: "Page", event: str, files: Sequence["FilePayload"]) -> None:
    """Drops files on the page, or pastes them."""
    given = [{**each, "buffer": list(each["buffer"])} for each in files]
    page.evaluate(
        """([event, files]) => {
          const data = new DataTransfer();
          for (const {name, mimeType, buffer} of files)
            data.items.add(new File([new Uint8Array(buffer)], name, {type: mimeType}));
          const options = {bubbles: true, cancelable: true};
          document.body.dispatchEvent(event === 'paste'
            ? new ClipboardEvent(event, {...options, clipboardData: data})
            : new DragEvent(event, {...options, dataTransfer: data}));
        }""",
        [event, given],
    )
