"""A flame graph of the bare scorer: which of this package's functions its seconds pass in.

    python -m benchmarks.flame [MODEL] [--dtype auto] [--seconds 20] [--plot docs/images]

A thread looks at the stack of the one that scores a 512 x 512 photograph again and again, two
hundred times a second. Frames of other packages count for the function here that called them; what
runs in one pass of oneDNN's counts for its caller. Prints what each function takes by itself, and
all below it.
"""

import argparse
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from types import FrameType

import skimage.data
from PIL import Image

import model
from model.scorer import limit_threads
from reporting import charts

_ROOT = str(Path(__file__).parent.parent / "model")
_PAUSE = 0.005
_LEAST = 0.005  # of the whole, that a box is drawn for
_WIDTH, _STEP = 900.0, 22
_LETTER = 7.4
_STYLE = """
.ground { fill: #fbfbf9; }
rect.box { stroke: #fbfbf9; }
.d0 { fill: #f3d9a4; } .d1 { fill: #edc683; } .d2 { fill: #e7b263; }
text { fill: #33373b; font-family: system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
@media (prefers-color-scheme: dark) {
  .ground { fill: #15171a; }
  rect.box { stroke: #15171a; }
  .d0 { fill: #6b5526; } .d1 { fill: #7d6227; } .d2 { fill: #8f6f28; }
  text { fill: #e6e8ea; }
}
"""

Stack = tuple[str, ...]


@dataclass
class Node:
    """How often a function was seen at its place, and what it called."""

    count: int = 0
    below: "dict[str, Node]" = field(default_factory=dict)

    def add(self, stack: Stack, count: int) -> None:
        """Of the outermost function first."""
        self.count += count
        if stack:
            self.below.setdefault(stack[0], Node()).add(stack[1:], count)


def sampled(work: Callable[[], object], seconds: float) -> Counter[Stack]:
    """The stacks of this thread while it does the work again and again."""
    found: Counter[Stack] = Counter()
    thread, over = threading.get_ident(), threading.Event()

    def watch() -> None:
        while not over.wait(_PAUSE):
            if stack := tuple(_own(sys._current_frames().get(thread))):
                found[stack[::-1]] += 1

    watcher = threading.Thread(target=watch)
    watcher.start()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        work()
    over.set()
    watcher.join()
    return found


def _own(frame: FrameType | None) -> Iterator[str]:
    """This package's functions on a stack, the innermost first."""
    while frame:
        code = frame.f_code
        if code.co_filename.startswith(_ROOT):
            yield f"{Path(code.co_filename).stem}.{code.co_qualname}"
        frame = frame.f_back


def svg(stacks: Counter[Stack]) -> bytes:
    """The graph, the outermost function on top."""
    root = Node()
    for stack, count in stacks.items():
        root.add(stack, count)
    shapes: list[str] = []
    depth = _draw(shapes, root, 0.0, 0, root.count)
    box = f"-4 -4 {_WIDTH + 8} {_STEP * depth + 8}"
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" font-size="12">'
    return charts.standalone("\n".join([opening, *shapes, "</svg>"]).encode(), _STYLE)


def _draw(shapes: list[str], node: Node, left: float, depth: int, whole: int) -> int:
    """Draws what a node called; returns how deep that goes."""
    deepest = depth
    for name, child in sorted(node.below.items()):
        width = _WIDTH * child.count / whole
        if child.count >= _LEAST * whole:
            title = f"<title>{escape(name)}: {child.count / whole:.1%}</title>"
            place = f'x="{left:.1f}" y="{_STEP * depth}" width="{width:.1f}" height="{_STEP - 1}"'
            shapes.append(f'<rect class="box d{depth % 3}" {place}>{title}</rect>')
            label = f"{name.rpartition('.')[2] if len(name) * _LETTER > width else name}"
            if len(label) * _LETTER < width:
                shapes.append(
                    f'<text x="{left + 4:.1f}" y="{_STEP * depth + 15}">{escape(label)}</text>'
                )
            deepest = max(deepest, _draw(shapes, child, left, depth + 1, whole))
        left += width
    return max(deepest, depth + bool(node.below))


def main() -> None:
    """Prints the functions, and draws the graph."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="tiny-clip-agiqa")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--plot", type=Path, help="the folder for flame.svg")
    given = parser.parse_args()
    limit_threads()
    scorer = model.load(given.model, device="cpu", dtype=given.dtype)
    image = Image.fromarray(skimage.data.astronaut())
    scorer.score(image)
    stacks = sampled(lambda: scorer.score(image), given.seconds)
    whole = stacks.total()
    alone = Counter[str]()
    below = Counter[str]()
    for stack, count in stacks.items():
        alone[stack[-1]] += count
        for name in set(stack):
            below[name] += count
    print(f"{given.model}, {scorer.precision}: {whole} looks\n  itself   below")
    for name, count in below.most_common():
        if count >= 0.01 * whole:
            print(f"{alone[name] / whole:8.1%}{count / whole:8.1%}  {name}")
    if given.plot:
        (given.plot / "flame.svg").write_bytes(svg(stacks))


if __name__ == "__main__":
    main()
