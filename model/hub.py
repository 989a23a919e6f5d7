"""Checkpoints on the Hugging Face hub: ``hf://owner/name``, or ``hf://owner/name@revision``."""

import logging
from collections.abc import Sequence
from pathlib import Path

from model.errors import CheckpointError

logger = logging.getLogger(__name__)

SCHEME = "hf://"

# What a checkpoint's folder holds; nothing else of a repository is downloaded or uploaded.
CARD = "README.md"
FILES = (
    *("config.json", "model.safetensors", "backbone.safetensors", "tokenizer.json"),
    *(CARD, "metrics.json"),
)
# So long may the hub take to answer.
_SECONDS = 10.0


def fetch(url: str) -> Path:
    """Downloads a checkpoint into the hub's cache (at once if it lies there already).

    Raises:
        CheckpointError: no such repository, no checkpoint in it, or no way to the hub.
    """
    owner_and_name, revision = parse(url)
    try:
        files = download(owner_and_name, FILES, revision)
    except CheckpointError as error:
        raise CheckpointError(
            f"{url} could not be downloaded ({error}): copy the checkpoint's folder here and give "
            "its path, fill the hub's cache (HF_HOME) beforehand, or use a bundled model"
        ) from error
    for file in files:
        if file.name == "config.json":
            _warn_of_change(url, revision, file.parent.name)
            return file.parent
    raise CheckpointError(f"{url} holds no checkpoint of agiqa: it has no config.json")


def _warn_of_change(url: str, revision: str | None, commit: str) -> None:
    """What a branch or a tag names may be another checkpoint tomorrow."""
    if revision != commit:
        repository = url.partition("@")[0]
        logger.warning("%s is now %s@%s; name that to get the same again", url, repository, commit)


def download(
    repository: str,
    names: Sequence[str],
    revision: str | None = None,
    *,
    only_first: bool = False,
) -> list[Path]:
    """Those of the files that a repository has, in the hub's cache; ``only_first``: the first.

    The hub is asked once; where it can't be reached, what is cached counts. (The hub's client would
    ask for each file six times, which takes 23 s.)

    Raises:
        CheckpointError: no such repository, or no way to the hub and none of the files cached.
    """
    from huggingface_hub import HfApi, snapshot_download

    try:
        listed = HfApi().model_info(repository, revision=revision, timeout=_SECONDS).siblings
    except Exception as error:  # the hub's client raises its own, its HTTP library's and OSErrors
        found = _cached(repository, names, revision)
        if not found:
            raise CheckpointError(reason(error)) from error
        return found[:1] if only_first else found
    there = {file.rfilename for file in listed or ()}
    wanted = [name for name in names if name in there][: 1 if only_first else None]
    if not wanted:
        return []
    try:
        folder = snapshot_download(repository, revision=revision, allow_patterns=wanted)
    except Exception as error:
        raise CheckpointError(reason(error)) from error
    return [Path(folder) / name for name in wanted]


def _cached(repository: str, names: Sequence[str], revision: str | None) -> list[Path]:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        paths = [try_to_load_from_cache(repository, name, revision=revision) for name in names]
    except HFValidationError:  # no repository has such a name
        return []
    return [Path(path) for path in paths if isinstance(path, str)]


def parse(url: str) -> tuple[str, str | None]:
    """``owner/name`` and the revision, if one is named, of a ``hf://`` address.

    Raises:
        CheckpointError: it is none.
    """
    name, _, revision = url.removeprefix(SCHEME).partition("@")
    parts = name.split("/")
    if not url.startswith(SCHEME) or len(parts) != 2 or not all(parts):
        raise CheckpointError(f"{url!r} names no repository: write hf://owner/name")
    return name, revision or None


def reason(error: Exception) -> str:
    """Why the hub gave or took nothing, in words."""
    from huggingface_hub import errors

    known = (
        (errors.GatedRepoError, "its owner must give you access first"),
        (errors.RepositoryNotFoundError, "no such repository, or a private one and no login"),
        (errors.RevisionNotFoundError, "no such revision"),
    )
    for kind, words in known:
        if isinstance(error, kind):
            return words
    if isinstance(error, errors.HfHubHTTPError | ValueError):
        return brief(error)
    return f"the hub can't be reached: {brief(error)}"


def brief(error: Exception) -> str:
    """An error's message in one line of at most 200 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."
