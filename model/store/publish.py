"""Uploads a checkpoint to the Hugging Face hub."""

import logging
import re
from pathlib import Path

from model.errors import CheckpointError
from model.hub import CARD, FILES, parse, reason
from model.store.checkpoint import is_inside, read_config, standalone

logger = logging.getLogger(__name__)

# A plot beside the card, as the card shows it.
_PLOT = re.compile(r"\]\(([\w-]+\.svg)\)")


def push(folder: Path, url: str, *, private: bool = False) -> str:
    """Uploads a checkpoint's folder and returns the address of its page; the repository, or the
    branch that a revision names, is made if need be.

    A backbone that several checkpoints share lies outside of the folder; it is uploaded into the
    repository, so that the checkpoint stands alone. A model card without the hub's header gets one.

    Raises:
        CheckpointError: the folder is no whole checkpoint, or the hub refused.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    owner_and_name, revision = parse(url)
    api = HfApi()
    with standalone(folder) as whole:
        contents = _contents(whole)
        if not read_config(whole).is_sealed:
            logger.warning("%s is not sealed; do it first: agiqa seal DIR", folder)
        try:
            page = api.create_repo(owner_and_name, private=private, exist_ok=True)
            if revision is not None:
                api.create_branch(owner_and_name, branch=revision, exist_ok=True)
            api.create_commit(
                owner_and_name,
                [CommitOperationAdd(name, content) for name, content in contents.items()],
                commit_message="Upload a checkpoint of agiqa",
                revision=revision,
            )
        except Exception as error:
            raise CheckpointError(
                f"{url} could not be uploaded ({reason(error)}){_advice(error)}"
            ) from error
    return str(page)


def _contents(folder: Path) -> dict[str, bytes | str]:
    """What is uploaded, by name: the model card as text, everything else as its path."""
    config = read_config(folder)
    contents: dict[str, bytes | str] = {
        name: str(folder / name) for name in FILES if (folder / name).is_file()
    }
    card = folder / CARD
    text = card.read_text() if card.is_file() else f"# {config.name}\n"
    plots = ((name, folder / name) for name in _PLOT.findall(text))
    shown = (name for name, path in plots if path.is_file() and is_inside(folder, path))
    contents |= {name: str(folder / name) for name in shown}
    contents[CARD] = (text if text.startswith("---\n") else _header(config.method) + text).encode()
    return contents


def _header(method: str) -> str:
    return f"""---
library_name: agiqa
pipeline_tag: image-classification
tags: [image-quality-assessment, {method}]
---

"""


def _advice(error: Exception) -> str:
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    if not isinstance(error, HfHubHTTPError | LocalTokenNotFoundError):
        return ""
    return ": log in with `hf auth login`, or set HF_TOKEN, to an account that may write there"
