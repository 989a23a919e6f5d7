"""Tokenizers that lie beside a checkpoint's backbone, as ``tokenizer.json``: for CLIPs whose texts
are not cut by CLIP's own byte pairs (SigLIP, CLIPA ...).

The file may be a stranger's. The library ``tokenizers`` runs no code of it; its size is bounded,
its digest is the configuration's, and regular expressions, whose time has no bound, are refused.
"""

import hashlib
import importlib
import json
from pathlib import Path
from typing import Any

from model.clip.tokenizer import Tokenizer, cleaning
from model.config import TokenizerConfig
from model.errors import BackboneError

TOKENIZER = "tokenizer.json"
# A vocabulary of 256 000 words takes half of it.
_MOST_BYTES = 80 * 2**20


class FileTokenizer(Tokenizer):
    """The tokenizer of a file, without padding, start and end."""

    def __init__(self, content: bytes, config: TokenizerConfig) -> None:
        """``content``: of the file.

        Raises:
            BackboneError: no tokenizer, one that asks for too much, or the library is missing.
        """
        self.prefix, self.suffix, self.pad = config.start, config.end, config.pad
        self._clean = cleaning(config.clean)
        self._tokenizer = _parse(content)

    @classmethod
    def read(cls, folder: Path, config: TokenizerConfig) -> "FileTokenizer":
        """The one that lies in a checkpoint's folder.

        Raises:
            BackboneError: as the constructor; or the file is missing, too large, or not the one
                that the configuration means.
        """
        path = folder / TOKENIZER
        try:
            content = path.read_bytes() if path.stat().st_size <= _MOST_BYTES else None
        except OSError as error:
            raise BackboneError(f"{path} is missing: copy the checkpoint again, whole") from error
        if content is None:
            raise BackboneError(f"{path} is larger than any tokenizer: copy the checkpoint again")
        if hashlib.sha256(content).hexdigest() != config.sha256:
            raise BackboneError(
                f"{path} is not the tokenizer that this checkpoint was made with (its SHA-256 "
                "differs from the configuration's): copy the checkpoint again, whole"
            )
        return cls(content, config)

    def __call__(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(self._clean(text), add_special_tokens=False).ids
        return ids


def _parse(content: bytes) -> Any:
    library = _library()
    try:
        text = content.decode()
        _refuse_expressions({k: v for k, v in json.loads(text).items() if k != "model"})
        tokenizer = library.Tokenizer.from_str(text)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode("a photo", add_special_tokens=False)
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # a panic of the library is no Exception
        raise BackboneError(
            f"{TOKENIZER} can't be used ({error}): it is damaged, or of another kind"
        ) from error
    return tokenizer


def _library() -> Any:
    try:
        return importlib.import_module("tokenizers")
    except ImportError as error:
        raise BackboneError(
            "this backbone's tokenizer needs the library tokenizers: pip install 'agiqa[clip]'"
        ) from error


def _refuse_expressions(part: object) -> None:
    """Refuses patterns: the search for one may go on for ever.

    Raises:
        ValueError: there is one.
    """
    if isinstance(part, dict):
        if "Regex" in part:
            raise ValueError("it has a regular expression, whose time has no bound")
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            _refuse_expressions(inner)
