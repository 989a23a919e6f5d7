"""Words that nobody would search for stay out of the code: docs/glossary.md has those that stay."""

import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# A name that is a dict here, a list there and a process elsewhere says nothing of any of them.
FORBIDDEN = re.compile(r"(?i)(^|_)told($|_)|(^|_)whence($|_)")
FILES = [
    path
    for folder in ("app", "model", "training", "tests", "benchmarks", "docs/examples")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_name_is_one_of_the_words_that_say_nothing(path: Path) -> None:
    with path.open("rb") as file:
        names = {t.string for t in tokenize.tokenize(file.readline) if t.type == tokenize.NAME}
    assert not [name for name in names if not name.startswith("test_") and FORBIDDEN.search(name)]
