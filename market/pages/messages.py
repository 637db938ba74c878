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
    # regulator
    _("Verify in this browser"),
    _("Hash of the bytes: {hash}"),
    _("The bytes name themselves entry {seq}."),
    _("The bytes belong to another entry."),
    _("The path of {count} hashes leads to the root over {size} entries."),
    _("The path does not lead to the signed root."),
    _("The checkpoint belongs to another log."),
    _("This browser cannot check Ed25519 signatures. Check the receipt on the command line."),
    _("The signature under the checkpoint is by {name}."),
    _("The signature under the checkpoint is not by this log's key."),
    _("This does not fit together."),
    _("As far as this browser can tell, it fits."),
    _("Verified: this entry is on the signed ledger."),
    _("Verified: the log signed this checkpoint."),
    _("The browser offers its cryptography only over HTTPS. Check the receipt on the command line."),
)


def catalogue() -> dict[str, str]:
    """Return the scripts' words in the active language; nothing in English, where a word is its own translation."""
    if (get_language() or "en").startswith("en"):
        return {}
    return {text: gettext(text) for text in SCRIPTS}
