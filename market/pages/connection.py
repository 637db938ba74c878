"""What the grid connection of an account may take and give: shown to officials, set by the market operator."""

from __future__ import annotations

from typing import NamedTuple

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from market.engine.accounts import MEMBER
from market.engine.engine import Engine
from market.grid import operations as grid
from market.households import accesslog
from market.households.models import Role
from market.pages import privacy
from market.pages.context import running_exchange
from market.pages.forms import ConnectionForm
from market.pages.roles import decide, only_for


class Limits(NamedTuple):
    """Limits of a connection in W; ``own_…`` are 0 where the market's hold, the others 0 where there is none at all."""

    own_import_w: int
    own_export_w: int
    import_w: int
    export_w: int
    shared_with: list[int]  # other accounts of the same connection
    halted: bool


def limits_of(index: int) -> Limits | None:
    """Return the limits of a member account's connection; None while the market does not run or where it has none."""
    exchange = running_exchange()

    def look(engine: Engine) -> Limits | None:
        if index >= len(engine.accounts) or engine.accounts[index].kind != MEMBER:
            return None
        account, params = engine.accounts[index], engine.params
        sharing = engine.connections[account.connection].accounts if account.connection else [account]
        return Limits(
            account.import_w,
            account.export_w,
            account.import_w or params.connection_import_w,
            account.export_w or params.connection_export_w,
            [other.index for other in sharing if other is not account],
            account.halted,
        )

    return None if exchange is None else exchange.read(look)


@never_cache
@only_for(Role.STAFF)
@require_http_methods(["GET", "POST"])
def connection(request: HttpRequest, index: int) -> HttpResponse:
    """Show what an account's connection may carry and the form that changes it."""
    limits = limits_of(index)
    if limits is None:
        raise Http404
    privacy.note(request, accesslog.ACCOUNT, accounts=[index, *limits.shared_with])
    form = ConnectionForm(
        request.POST if request.method == "POST" else None,
        initial={"import_w": limits.own_import_w, "export_w": limits.own_export_w},
    )
    status = 200
    if request.method == "POST":
        if decide(
            request,
            form,
            grid.set_connection,
            lambda asked: {"account": index, **{name: value for name, value in asked.items() if name != "once"}},
            _("The new limits of the connection are in force."),
        ):
            return redirect("ledger-account", index)
        status = 422
    context = {"index": index, "limits": limits, "form": form}
    return render(request, "staff/connection.html", context, status=status)


urlpatterns = [path("staff/accounts/<int:index>/connection", connection, name="connection")]
