"""The settings in effect, as a file that ``agiqa serve --config`` reads back."""

import json
from collections.abc import Mapping
from pathlib import Path

from app.settings import Settings

# Whoever reads the output reads no secret in it.
_SECRET = frozenset({"api_keys", "admin_keys"})


def as_toml(settings: Settings, origins: Mapping[str, str]) -> str:
    """A line per setting, with where it comes from (``origins``, by name) behind it.

    What is not set, and keys, are comments: the file can be read back, and says how many keys there
    are and nothing more of them.
    """
    lines = []
    for name, origin in origins.items():
        value = getattr(settings, name)
        if name in _SECRET and value:
            lines.append(f"# {name}: {len(value)}, not shown  # {origin}")
        elif value is None or name in _SECRET:
            lines.append(f"# {name}: none  # {origin}")
        else:
            lines.append(f"{name} = {_literal(value)}  # {origin}")
    return "\n".join(lines)


def _literal(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, str | Path):
        # A JSON string is one of TOML but for this character.
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
