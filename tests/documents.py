"""The pages of the documentation, read as a test needs them: blocks, commands, links, headings."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
# What a block may say that it needs, so that no test can run it.
NEEDS = ("data", "a GPU", "network", "docker", "a cluster", "a browser", "time")
LANGUAGES = {
    *("bash", "console", "python", "json", "toml", "yaml", "text", "mermaid", "nginx", "promql"),
    *("csv", "http"),
}
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block; ``line`` is where it opens."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def needs(self) -> str | None:
        """What its first line says that it needs."""
        found = re.match(r"# needs (.+)", self.text)
        return found[1] if found else None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """A shell command, and the lines that the page shows as its output."""

    text: str
    shown: tuple[str, ...] = ()


def pages() -> list[Path]:
    """The README and all pages of the site."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """Its fenced blocks in order."""
    text = page.read_text()
    return [
        Block(
            page, text.count("\n", 0, m.start()) + 1, m[2], re.sub(f"^{m[1]}", "", m[3], flags=re.M)
        )
        for m in _FENCE.finditer(text)
    ]


def commands(block: Block) -> Iterator[Command]:
    """A bash block is one script; a console block has a command behind each ``$``, and its output
    up to the next; ``>`` goes on with a command.
    """
    if block.language != "console":
        yield Command(block.text)
        return
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        own = 1
        while lines[own - 1].endswith("\\") or (own < len(lines) and lines[own].startswith("> ")):
            own += 1
        text = "\n".join(line.removeprefix("> ") for line in lines[:own])
        yield Command(text, tuple(lines[own:]))


def links(page: Path) -> list[str]:
    """Targets of its links and pictures, outside of code."""
    text = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", page.read_text()))
    return _LINK.findall(text)


def anchors(page: Path) -> set[str]:
    """What links into the page may name: its headings, as GitHub and the site shorten them."""
    text = _FENCE.sub("", page.read_text())
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {_slug(heading) for heading in headings} | set(
        re.findall(r'\{#([\w-]+)\}|id="([\w-]+)"', text)
    )


def _slug(heading: str) -> str:
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
    return re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")
