"""XML that somebody else wrote: read within bounds, without document types and entities.

A file is refused for its size before anything looks at it, then for its encoding, then while it is read, as soon as it has
too many elements or nests too deep.
"""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

MAX_BYTES = 8 * 1024 * 1024  # a bank statement of some 5,000 entries
MAX_ELEMENTS = 400_000
MAX_DEPTH = 40  # a statement has 12 levels

_DECLARED = re.compile(rb"""<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
_UTF_8 = {"utf-8", "utf8", "us-ascii", "ascii"}


class UnreadableFile(Exception):
    """The file is refused. ``code`` is stable: file_too_large, file_encoding, file_entities, file_malformed, file_kind."""

    def __init__(self, code: str, detail: str):
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class _Bounded(TreeBuilder):
    def __init__(self) -> None:
        super().__init__()
        self._count = self._depth = 0

    def start(self, tag: str, attrs: dict[str, str], /) -> Element:  # type: ignore[override]
        self._count += 1
        self._depth += 1
        if self._count > MAX_ELEMENTS or self._depth > MAX_DEPTH:
            raise UnreadableFile("file_too_large", f"more than {MAX_ELEMENTS} elements or {MAX_DEPTH} levels")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Element:
        self._depth -= 1
        return super().end(tag)


def check_size(size: int) -> None:
    """Raise ``UnreadableFile`` when a file is too large to be read at all."""
    if size > MAX_BYTES:
        raise UnreadableFile("file_too_large", f"{size} bytes, at most {MAX_BYTES}")


def parse(data: bytes) -> Element:
    """Return the document's root; raise ``UnreadableFile``."""
    check_size(len(data))
    declared = _DECLARED.search(data[:300])
    if declared is not None and declared[1].decode("ascii").lower() not in _UTF_8:
        raise UnreadableFile("file_encoding", f"declared as {declared[1].decode('ascii')}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableFile("file_encoding", f"byte {error.start} is not UTF-8") from None
    parser = DefusedXMLParser(target=_Bounded(), encoding="utf-8", forbid_dtd=True)
    try:
        parser.feed(text.encode())
        root: Element = parser.close()
    except DefusedXmlException:
        raise UnreadableFile("file_entities", "it declares a document type or entities") from None
    except (ParseError, ValueError) as error:
        raise UnreadableFile("file_malformed", str(error)) from None
    return root
