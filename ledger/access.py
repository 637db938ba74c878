"""Who may read entries and rows: they hold what single homes did. Checkpoint, hash tiles and rulebooks are public."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest
from django.utils.module_loading import import_string

ROLES = frozenset(("regulator", "operator", "staff"))


def may_read_entries(request: HttpRequest) -> bool | None:
    """Return whether a request may read entry bundles and rows (see ``_may_read``), and note that it does.

    What is read is noted by the function the setting ``LEDGER_NOTED`` names; an open ledger has nothing to note.
    """
    answer = _may_read(request)
    noted = getattr(settings, "LEDGER_NOTED", "")
    if answer and noted and not settings.LEDGER_OPEN:
        import_string(noted)(request)
    return answer


def _may_read(request: HttpRequest) -> bool | None:
    """Return whether a request may read entry bundles and rows; None when it comes from nobody we know.

    Yes in an open ledger (setting ``LEDGER_OPEN``), for a signed-in user with one of ``ROLES``, and where the function
    that the setting ``LEDGER_ACCESS`` names (dotted path, called with the request) says so, which is how API keys get in;
    like this one it answers None where there is no valid key.
    """
    if settings.LEDGER_OPEN:
        return True
    user = getattr(request, "user", None)
    known = user is not None and user.is_authenticated and user.is_active
    if known and getattr(user, "role", None) in ROLES:
        return True
    hook = getattr(settings, "LEDGER_ACCESS", "")
    answer: bool | None = import_string(hook)(request) if hook else None
    return False if answer is None and known else answer
