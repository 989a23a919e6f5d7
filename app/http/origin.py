"""What a browser may do here on behalf of a page: only pages of the service's own send images.

Two attacks go through a browser that can reach the service while the attacker can't. A page of
another site posts a form, which browsers let through without asking; and a name of the attacker's
is made to point here (DNS rebinding), so that the page counts as the service's own.
"""

import re
from collections.abc import Mapping, Sequence

from app.batching.errors import BadHost, CrossSite

_PORT = re.compile(r":\d+$")


class Hosts:
    """The names that the service answers to."""

    def __init__(self, names: Sequence[str]) -> None:
        """``names``: without ports; ``*.example.org`` stands for all below it, ``*`` for all."""
        self._any = "*" in names
        self._names = {name.lower() for name in names}
        self._suffixes = tuple(name[1:].lower() for name in names if name.startswith("*."))

    def require(self, headers: Mapping[str, str]) -> None:
        """Raises BadHost for a request that was sent to another name."""
        name = _PORT.sub("", headers.get("host", "")).lower().removesuffix(".")
        # Without a name it comes from no browser.
        if not (self._any or not name or name in self._names or name.endswith(self._suffixes)):
            raise BadHost


class Origins:
    """Whose pages may send requests that do something."""

    def __init__(self, allowed: Sequence[str]) -> None:
        """``allowed``: origins beside the service's own, ``https://example.org``."""
        self._allowed = {origin.lower().rstrip("/") for origin in allowed}

    def require(self, headers: Mapping[str, str]) -> None:
        """Raises CrossSite for a request that a browser sends for a page of another site. What is
        no browser sends neither header.
        """
        site = headers.get("sec-fetch-site", "").lower()
        origin = headers.get("origin", "").lower()
        if origin in self._allowed or site in {"same-origin", "none"}:
            return
        own = origin.partition("://")[2] == headers.get("host", "").lower()
        if site or (origin and not own):
            raise CrossSite
