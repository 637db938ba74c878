"""The words scripts say. ``t("…")`` in frontend/src names one of these; a test compares the two lists.

Scripts get translations with the page instead of a file of their own: one request less before anything moves, and one
catalogue for translators.
"""

from __future__ import annotations

from django.utils.translation import get_language, gettext
from django.utils.translation import gettext_noop as _

SCRIPTS = (
    # api
    _("The market did not answer. Nothing was sent twice; try again."),
    _("The market answered with an error ({status})."),
    # shell
    _("Live"),
    _("Connecting"),
    _("Prices paused"),
    _("Prices are live again."),
    _("Prices paused: the connection to the market is silent. Nothing can be sold until it is back."),
    _("Block {height}"),
)


def catalogue() -> dict[str, str]:
    """Return the scripts' words in the active language; nothing in English, where a word is its own translation."""
    if (get_language() or "en").startswith("en"):
        return {}
    return {text: gettext(text) for text in SCRIPTS}
