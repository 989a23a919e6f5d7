"""LitServe: its batching, its workers; uploads come as a form, the one kind of binary body that it
reads by itself.
"""

import litserve
from fastapi import Request

from benchmarks.peers.scoring import Cropped, cropped, load, qualities
from benchmarks.peers.setups import Setup

SETUP = Setup.from_environment()
# Its queue is polled without a pause at 0.
_WAIT_SECONDS = 0.005


class QualityAPI(litserve.LitAPI):  # type: ignore[misc]
    """One image per call."""

    def setup(self, device: str) -> None:
        del device
        self.scorer = load(SETUP)

    def decode_request(self, request: Request) -> Cropped:
        # What comes is the form; LitServe reads from the annotation that it is to parse one.
        return cropped(self.scorer, request["image"].file.read())

    def predict(self, image: Cropped) -> float:
        return qualities(self.scorer, [image])[0]

    def encode_response(self, quality: float) -> dict[str, float]:
        return {"quality": quality}


class BatchedQualityAPI(QualityAPI):
    """Several images per call."""

    def batch(self, images: list[Cropped]) -> list[Cropped]:
        return images

    def predict(self, images: list[Cropped]) -> list[float]:  # type: ignore[override]
        return qualities(self.scorer, images)

    def unbatch(self, found: list[float]) -> list[float]:
        return found


if __name__ == "__main__":
    if SETUP.batch > 1:
        api = BatchedQualityAPI(max_batch_size=SETUP.batch, batch_timeout=_WAIT_SECONDS)
    else:
        api = QualityAPI()
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=SETUP.processes)
    server.run(host="127.0.0.1", port=SETUP.port, generate_client_file=False, log_level="warning")
