"""Where the images of a set lie: people move them up a folder, and change the case of their
endings.
"""

from collections.abc import Callable
from pathlib import Path


def locate(*folders: Path) -> Callable[[str], Path]:
    """A function from an image's name to its file: in the first of the folders that has it,
    whatever the case of its name; where none has, its name in the first folder.
    """
    found: dict[str, Path] = {}
    for folder in reversed(folders):
        if folder.is_dir():
            found |= {path.name.casefold(): path for path in folder.iterdir()}

    def place(name: str) -> Path:
        return found.get(name.casefold(), folders[0] / name)

    return place
