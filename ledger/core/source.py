"""Where a log's files come from, as the pure core sees it: a function from a path to bytes."""

from __future__ import annotations

from collections.abc import Callable


class Missing(LookupError):
    """The source has no such file."""

    def __init__(self, path: str, why: str = ""):
        super().__init__(f"{path} is missing" + (f": {why}" if why else ""))
        self.path = path


# Read "checkpoint", "tile/0/x001/067.p/3", "tile/entries/000", "rows/17", "rulebook/<sha256>"; raises ``Missing``.
Source = Callable[[str], bytes]
