"""Who may open a page, and where a person's own page is."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from market.households.models import Role, User

View = Callable[..., HttpResponse]

HOME_PAGES = {
    Role.HOUSEHOLD.value: "home",
    Role.OPERATOR.value: "operator",
    Role.REGULATOR.value: "regulator",
    Role.STAFF.value: "staff",
}
# The ledger's entries show what single homes did: for officials only (DESIGN section 7).
LEDGER_ROLES = (Role.REGULATOR, Role.OPERATOR, Role.STAFF)


def only_for(*roles: Role) -> Callable[[View], View]:
    """Let people in these roles in; others get a 403 page, who is not signed in is asked to. No role: everybody known."""
    names = {role.value for role in roles}

    def decorate(view: View) -> View:
        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if not request.user.is_authenticated:
                return redirect_to_login(request.get_full_path())
            if names and request.user.role not in names:
                raise PermissionDenied
            return view(request, *args, **kwargs)

        return checked

    return decorate


def own_page(user: User) -> str:
    """Return the address of the page a person comes for."""
    return reverse(HOME_PAGES[user.role])
