"""Pictures of the page for the documentation: ``python -m tests.browser.screenshots docs/images``.

The photographs are those of scikit-image that are in the public domain or CC0 (astronaut, chelsea,
coffee, rocket), whole and spoiled.
"""

import contextlib
import io
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from app.cli.main import main as agiqa
from app.http.page import STATIC
from tests.app.pictures import encoded
from tests.app.server import Running, serving
from tests.browser.conftest import MODELS
from tests.browser.visit import Visit, chromium, photograph

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FilePayload

NAMES = ("coffee", "rocket", "chelsea", "astronaut")
STEP = 5
MOST_BYTES = 300_000


def files() -> list["FilePayload"]:
    """Each photograph whole and spoiled in four ways."""
    found = []
    for which, name in enumerate(NAMES):
        size = (512, 512) if name == "astronaut" else (600, 400)
        image = photograph(which, size)
        spoiled = {
            "": image,
            "-blurred": image.filter(ImageFilter.GaussianBlur(3)),
            "-dark": ImageEnhance.Brightness(image).enhance(0.3),
            "-noisy": _noisy(image),
            "-jpeg": Image.open(io.BytesIO(encoded(image, "JPEG", quality=5))),
        }
        found += [_file(f"{name}{how}.png", each) for how, each in spoiled.items()]
    return found


def _noisy(image: Image.Image) -> Image.Image:
    noise = np.random.default_rng(0).normal(0, 35, (*image.size[::-1], 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def _file(name: str, image: Image.Image) -> "FilePayload":
    return {"name": name, "mimeType": "image/png", "buffer": encoded(image)}


@contextlib.contextmanager
def _visit(browser: "Browser", service: Running, **options: Any) -> Iterator[Visit]:
    settings = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce", **options}
    context = browser.new_context(**settings)
    try:
        yield Visit(context.new_page(), service.url).open()
    finally:
        context.close()


def _keep(visit: Visit, target: Path) -> None:
    # Thumbnails come after the scores.
    visit.page.wait_for_timeout(1500)
    taken = Image.open(io.BytesIO(visit.page.screenshot())).convert("RGB")
    taken.save(target, optimize=True)
    if target.stat().st_size > MOST_BYTES:
        # Fewer tones per channel; a palette would shift the colours of the page.
        fewer = np.round(np.asarray(taken) / STEP) * STEP
        Image.fromarray(fewer.astype(np.uint8)).save(target, optimize=True)


def take(folder: Path) -> None:
    """Writes the pictures into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as logs,
        chromium() as browser,
        serving(Path(logs), MODELS) as service,
    ):
        with _visit(browser, service) as visit:
            visit.choose(files()[0])
            visit.page.locator("#single .stage").hover(position={"x": 330, "y": 200})
            _keep(visit, folder / "page-one.png")
        with _visit(browser, service, viewport={"width": 1280, "height": 815}) as visit:
            visit.choose(*files())
            visit.page.get_by_label("Sort by").select_option("quality")
            visit.page.get_by_role("button", name="Ascending").click()
            _keep(visit, folder / "page-many.png")
        with _visit(browser, service, color_scheme="dark") as visit:
            visit.generated("coloured balls on a wooden table")
            made = (STATIC / "assets" / "still-life.webp").read_bytes()
            visit.choose(
                {"name": "still-life.webp", "mimeType": "image/webp", "buffer": made}, *files()[:3]
            )
            visit.page.locator(".card .open").first.click()
            _keep(visit, folder / "page-dialog-dark.png")
        phone = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2}
        with _visit(browser, service, **phone) as visit:
            visit.choose(files()[10])
            _keep(visit, folder / "page-phone.png")


def take_report(target: Path) -> None:
    """Writes a picture of the report of ``agiqa score`` over the photographs and a broken file."""
    with tempfile.TemporaryDirectory() as name, chromium() as browser:
        folder = Path(name)
        images = folder / "images"
        images.mkdir()
        for file in files():
            (images / file["name"]).write_bytes(file["buffer"])
            (images / file["name"]).with_suffix(".txt").write_text("a photograph")
        (images / "broken.png").write_bytes(b"broken")
        report = folder / "report.html"
        command = ["score", str(images), "-o", str(folder / "scores.csv"), "--prompts", "beside"]
        with contextlib.suppress(SystemExit):  # a file that can't be scored is a status of its own
            agiqa([*command, "--dtype", "float32", "--quiet", "--report", str(report)])
        page = browser.new_page(viewport={"width": 1120, "height": 1420})
        page.goto(report.as_uri())
        page.screenshot(path=target)


def main(arguments: Sequence[str]) -> None:
    (folder,) = arguments
    take(Path(folder))
    take_report(Path(folder) / "report.png")


if __name__ == "__main__":
    main(sys.argv[1:])
