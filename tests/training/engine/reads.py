"""``agiqa`` that notes each image file it opens in ``$READS/RANK``, and the epochs it begins.

Run by torchrun in the command's place.
"""

import os
import sys
from pathlib import Path

from app.cli.main import main

_IMAGES = (".jpg", ".png", ".bmp")


def note_reads(folder: Path) -> None:
    """From now on."""
    notes = (folder / os.environ["RANK"]).open("a", buffering=1)

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and str(arguments[0]).endswith(_IMAGES):
            notes.write(f"{Path(str(arguments[0])).name}\n")

    sys.addaudithook(hear)


if __name__ == "__main__":
    note_reads(Path(os.environ["READS"]))
    main()
