"""Settings over what a recipe states: one by one (``key.sub=value``), or a whole recipe's."""

from collections.abc import Mapping
from typing import Any

import yaml

from training.errors import RecipeError


def apply(content: dict[str, Any], setting: str) -> None:
    """Sets one ``key.sub=value`` in a recipe's content.

    Raises:
        RecipeError: no equals sign, no YAML, or a key inside of what is no section.
    """
    key, equals, value = setting.partition("=")
    if not equals:
        raise RecipeError(f"--set {setting!r}: write key=value")
    *parents, last = key.split(".")
    section: Any = content
    for parent in parents:
        section = section.setdefault(parent, {})
        if not isinstance(section, dict):
            raise RecipeError(f"--set {setting!r}: {parent} is no section")
    try:
        section[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {setting!r}: the value is no YAML: {error}") from error


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """``above`` over ``below``, section by section; data sets and shares are replaced as a whole,
    since a recipe may name fewer of them than the one below it.
    """
    result = dict(below)
    for key, value in above.items():
        section = result.get(key)
        if key not in {"data", "shares", "quotas"} and isinstance(section, Mapping):
            value = merged(section, value) if isinstance(value, Mapping) else value
        result[key] = value
    return result
