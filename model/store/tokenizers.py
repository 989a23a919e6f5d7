"""The tokenizer of an open_clip model that does not cut texts by CLIP's own byte pairs: fetched
when a checkpoint is assembled, and stored in it, so that scoring needs no network.
"""

import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model import hub
from model.clip.backbone import text_settings
from model.clip.file_tokenizer import TOKENIZER, FileTokenizer
from model.clip.tokenizer import Tokenizer
from model.config import TokenizerConfig
from model.errors import BackboneError, CheckpointError
from model.store.files import write_atomically

# Of a repository: what describes a tokenizer, whatever its kind.
_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("config.json", "vocab.txt", "vocab.json", "merges.txt", "spiece.model", "tokenizer.model"),
    "sentencepiece.bpe.model",
)
_PROBES = ("", "a photo of a cat, in the rain", "Zwölf Boxkämpfer_jagen  VIKTOR!", "雨の中の猫 🐈")


def fetch(architecture: str) -> tuple[TokenizerConfig, bytes] | None:
    """The model's own tokenizer, as a checkpoint keeps it; None: it is CLIP's.

    Raises:
        BackboneError: it can't be had, or can't be kept.
    """
    settings = text_settings(architecture)
    own = settings.get("tokenizer_kwargs", {})
    context = int(settings.get("context_length", 77))
    if unknown := own.keys() - {"clean", "strip_sep_token"}:
        raise _lossy(architecture, f"its setting {sorted(unknown)[0]}")
    if settings.get("tokenizer_mode"):
        raise _lossy(architecture, "its setting tokenizer_mode")
    if not (repository := settings.get("hf_tokenizer_name")):
        import open_clip

        _compare(architecture, open_clip.SimpleTokenizer(**own), Tokenizer(), context)
        return None
    theirs, content = _of_open_clip(architecture, str(repository), own, context)
    config = _around(theirs, own, content)
    _compare(architecture, theirs, FileTokenizer(content, config), context)
    return config, content


def write(folder: Path, content: bytes) -> None:
    """Puts a tokenizer's file into a checkpoint's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / TOKENIZER, content)


def _of_open_clip(
    name: str, repository: str, own: Mapping[str, Any], context: int
) -> tuple[Any, bytes]:
    """open_clip's ``HFTokenizer`` of the repository's files, none of which is code; and what the
    library under it can be made of again.
    """
    if importlib.util.find_spec("transformers") is None:
        raise BackboneError(
            f"the tokenizer of {name} needs the library transformers to be read once: "
            "pip install 'agiqa[clip]'"
        )
    from open_clip.tokenizer import HFTokenizer

    try:
        files = hub.download(repository, _FILES)
        if not files:
            raise CheckpointError(f"{repository} has no tokenizer")
        folder = str(files[0].parent)
        theirs = HFTokenizer(folder, context_length=context, trust_remote_code=False, **own)
        return theirs, theirs.tokenizer.backend_tokenizer.to_str().encode()
    except Exception as error:  # the library raises anything
        raise BackboneError(
            f"the tokenizer {repository} of {name} could not be had ({hub.brief(error)}): choose "
            "another architecture"
        ) from error


def _around(theirs: Any, settings: Mapping[str, Any], content: bytes) -> TokenizerConfig:
    """What stands around a text's tokens, read off one."""
    text = theirs.clean_fn(_PROBES[1])
    inner = theirs.tokenizer(text, add_special_tokens=False).input_ids
    row = theirs.tokenizer(text).input_ids
    if settings.get("strip_sep_token"):
        row = [0 if token == theirs.tokenizer.sep_token_id else token for token in row]
    at = next((i for i in range(len(row)) if row[i : i + len(inner)] == inner), 0)
    return TokenizerConfig(
        sha256=hashlib.sha256(content).hexdigest(),
        clean=settings.get("clean", "whitespace"),
        start=tuple(row[:at]),
        end=tuple(row[at + len(inner) :]),
        pad=theirs.tokenizer.pad_token_id or 0,
    )


def _compare(name: str, theirs: Any, ours: Tokenizer, context: int) -> None:
    """Refuses a tokenizer whose tokens ours would not give.

    Raises:
        BackboneError: names the model.
    """
    for probe in _PROBES:
        row: Sequence[int] = theirs([probe], context_length=context)[0].tolist()
        own = [*ours.prefix, *ours(probe), *ours.suffix]
        if len(own) <= context and row != own + [ours.pad] * (context - len(own)):
            raise _lossy(name, "how it cuts texts")


def _lossy(name: str, what: str) -> BackboneError:
    return BackboneError(
        f"a checkpoint can't keep the tokenizer of {name} ({what}): choose another architecture"
    )
