"""Equations of the docs site as MathML, so that pages need no script and no other host.

A Markdown extension behind ``pymdownx.arithmatex`` (``generic: true``), which finds ``$...$`` and
``$$...$$``. GitHub shows the same equations by itself.
"""

import html
import re
from typing import Any

from latex2mathml.converter import convert
from markdown import Extension, Markdown
from markdown.postprocessors import Postprocessor

_FOUND = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<tex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL
)


class _ToMathMl(Postprocessor):
    def run(self, text: str) -> str:
        """The page with every equation replaced."""
        return _FOUND.sub(_mathml, text)


def _mathml(found: re.Match[str]) -> str:
    display = "block" if found["tag"] == "div" else "inline"
    return convert(html.unescape(found["tex"]).strip(), display=display)


class Equations(Extension):
    """Registers the step; it runs after raw HTML has been put back (priority below 30)."""

    def extendMarkdown(self, md: Markdown) -> None:
        """Markdown's own name for it."""
        md.postprocessors.register(_ToMathMl(md), "equations", 5)


def makeExtension(**options: Any) -> Equations:
    """Markdown's own name for the way in."""
    return Equations(**options)
