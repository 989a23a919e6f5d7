"""Counts lines of code: without comments, docstrings and blank lines.

    python -m benchmarks.code_lines [PATH ...]

Without paths: the packages and the client, one line each, and their sum.
"""

import ast
import io
import sys
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
PRODUCT = ("app", "model", "training", "reporting", "agiqa_client.py")
# Tokens that are no code, wherever they stand.
_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


def code_lines(source: str) -> int:
    """Physical lines of a module that hold a token of code."""
    docstrings = set(_docstring_lines(ast.parse(source)))
    tokens = tokenize.tokenize(io.BytesIO(source.encode()).readline)
    lines: set[int] = set()
    for token in tokens:
        if token.type not in _NO_CODE:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - docstrings)


def _docstring_lines(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            first = node.body[0]
            yield from range(first.lineno, (first.end_lineno or first.lineno) + 1)


def files(path: Path) -> list[Path]:
    """The modules at or under a path."""
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


def main(paths: Sequence[str]) -> None:
    """Prints a line per path, and their sum."""
    counts = {
        path: sum(code_lines(file.read_text()) for file in files(ROOT / path))
        for path in paths or PRODUCT
        if (ROOT / path).exists()
    }
    for path, count in counts.items():
        print(f"{count:7,d}  {path}")
    print(f"{sum(counts.values()):7,d}  in all")


if __name__ == "__main__":
    main(sys.argv[1:])
