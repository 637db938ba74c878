"""The template backend of all pages and mails: what templates render, set as its language is written.

Templates join sentences as English does, with a space or a line break between two tags. Chinese puts none after its own
marks, which bring their room with them. One place knows that, so no template has to.
"""

from __future__ import annotations

import re
from typing import Any

from django.http import HttpRequest
from django.template.backends.django import DjangoTemplates, Template
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language

WRITTEN_CLOSE = frozenset({"zh-hans"})  # languages whose marks bring their room with them
MARKS = "。！？；：，、"
INLINE = r"(?:a|b|bdi|code|em|i|kbd|s|small|span|strong|time)"
# What somebody typed, what is preformatted and what programs read stays as it is. White space before anything but words and
# what stands among words shows nowhere.
KEPT = r"<(textarea|pre|script)\b.*?</\2>|\bvalue=\"[^\"]*\""
HTML = re.compile(rf"({KEPT})|([{MARKS}](?:</{INLINE}>)*)\s+(?=(?:<{INLINE}\b[^<>]*>)*[^\s<])", re.DOTALL)
TEXT = re.compile(rf"()()([{MARKS}]) +(?=\S)")  # where line breaks mean something


def closed_up(text: str, *, html: bool = True) -> str:
    """Return a text without white space between a Chinese mark and the words that follow it."""
    return (HTML if html else TEXT).sub(lambda found: found[1] or found[3], text)


class Typeset(Template):
    """A template whose output is set as the active language is written."""

    def render(self, context: dict[str, Any] | None = None, request: HttpRequest | None = None) -> SafeString:
        """Return the rendered template."""
        text = super().render(context, request)
        if get_language() not in WRITTEN_CLOSE:
            return text
        # Only white space goes: what was safe is safe.
        return mark_safe(closed_up(text, html=not str(self.template.name).endswith(".txt")))  # noqa: S308


class Templates(DjangoTemplates):
    """Django's own backend with ``Typeset`` templates."""

    def from_string(self, template_code: str) -> Typeset:
        """Return a template made from text."""
        return Typeset(super().from_string(template_code).template, self)

    def get_template(self, template_name: str) -> Typeset:
        """Return a template by its name."""
        return Typeset(super().get_template(template_name).template, self)
