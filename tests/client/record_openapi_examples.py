"""Records the answers that the OpenAPI page shows: python -m tests.client.record_openapi_examples

It starts the real service on the bundled models in float32. The code samples in the file are
written by hand and stay.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import httpx
import skimage.data
from PIL import Image

from app.http.openapi import PROMPT, RECORDED, REQUEST_ID
from tests.app import pictures
from tests.app.pictures import encoded, picture
from tests.app.server import serving


def images(folder: Path) -> tuple[bytes, bytes]:
    """photo.jpg and generated.jpg, which the samples name, in the folder and as their bytes."""
    shown = {"photo.jpg": skimage.data.astronaut(), "generated.jpg": skimage.data.coffee()}
    for name, pixels in shown.items():
        Image.fromarray(pixels).save(folder / name)
    photo, generated = ((folder / name).read_bytes() for name in shown)
    return photo, generated


def answers(client: httpx.Client, folder: Path) -> dict[str, dict[str, Any]]:
    """The service's answers that stand as examples, by path and the example's name."""
    photo, generated = images(folder)
    no_image = ("images", ("notes.txt", b"no image"))

    def post(path: str, image: bytes, **form: str) -> Any:
        return client.post(path, files={"image": image}, data=form).json()

    def batch(path: str, name: str, image: bytes, **form: list[str]) -> Any:
        files = [("images", (name, image)), no_image]
        return client.post(path, files=files, data=form).json()

    models = client.get("/models").json()["models"]
    # Only a model that lists its words has something to say of these.
    unknown = post("/score-agi", generated, prompt="zqx wvk")
    return {
        "/score": {"photograph": post("/score", photo)},
        "/score-agi": {
            "with a prompt": post("/score-agi", generated, prompt=PROMPT),
            "without": post("/score-agi", generated),
            **({"with unknown words": unknown} if "detail" in unknown else {}),
        },
        "/score/batch": {"one is none": batch("/score/batch", "photo.jpg", photo)},
        "/score-agi/batch": {
            "one is none": batch(
                "/score-agi/batch", "generated.jpg", generated, prompts=[PROMPT, ""]
            )
        },
        "/models": {"one model": {"models": [m for m in models if m["name"] == "tiny-clip-agiqa"]}},
    }


def refusals(client: httpx.Client) -> dict[str, str]:
    """The service's sentence for each code of a request that it refuses, in alphabetical order."""
    image = {"image": encoded()}
    three = [("images", encoded())] * 3
    refused = [
        client.post("/score", files={"image": ("photo.jpg", b"")}),
        client.post("/score?model=x", files=image),
        client.post("/score", files={"image": pictures.png_header(20_000, 10_000)}),
        client.post("/score", files={"image": pictures.SVG}),
        client.post("/score-agi/batch", files=three, data={"prompts": ["one", "two"]}),
        client.post("/score", files={"image": encoded(picture(5200, 100))}),
    ]
    return dict(sorted((answer.json()["code"], answer.json()["detail"]) for answer in refused))


def record() -> None:
    """Writes the file anew."""
    models = {"AGIQA_MODELS": "tiny-mpiqe,tiny-clip-agiqa"}
    content = json.loads(RECORDED.read_text())
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), models) as running:
        running.client.headers["X-Request-ID"] = REQUEST_ID
        content["answers"] = answers(running.client, Path(folder))
        content["refusals"] = refusals(running.client)
    RECORDED.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    record()
