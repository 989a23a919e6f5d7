"""What a model was trained on, kept with it, so that a leak is found on any copy of a data set.

Redrawing a split needs the very folder that it was drawn from; a copy with more or fewer prompts
gives another one. So a checkpoint also keeps a short digest of every group (prompt, reference
image, photograph) that it learned from.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from training.data.samples import Sample
from training.errors import LeakError
from training.splits.groups import key_of

# Hexadecimal digits per group; among a thousand groups one in four million is taken for another.
_DIGITS = 8


def digests(groups: Iterable[str]) -> str:
    """The digests of groups in one string, sorted."""
    return "".join(sorted({_digest(group) for group in groups}))


def joined(*trained: Mapping[str, str]) -> dict[str, str]:
    """By data set, all that several models learned from."""
    names = dict.fromkeys(name for each in trained for name in each)
    return {
        name: "".join(sorted({d for each in trained for d in _parts(each.get(name, ""))}))
        for name in names
    }


def among(samples: Sequence[Sample], trained: Mapping[str, str]) -> list[Sample]:
    """The samples whose group was learned from."""
    seen = {name: _parts(text) for name, text in trained.items()}
    return [s for s in samples if _digest(s.group) in seen.get(s.dataset, ())]


def refuse(samples: Sequence[Sample], trained: Mapping[str, str], what: str, remedy: str) -> None:
    """Refuses samples that were learned from.

    Raises:
        LeakError: says how many of ``what``, names the first, and the remedy.
    """
    if leaks := among(samples, trained):
        raise LeakError(
            f"{len(leaks)} of the {len(samples)} images of {what} were trained on, "
            f"{leaks[0].group!r} first: {remedy}"
        )


def _parts(text: str) -> frozenset[str]:
    return frozenset(text[i : i + _DIGITS] for i in range(0, len(text), _DIGITS))


def _digest(group: str) -> str:
    return hashlib.sha256(key_of(group).encode()).hexdigest()[:_DIGITS]
