"""Halts and the kill switch, for the grid operator and the market operator alike."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import Any, NamedTuple

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from market.engine.engine import Engine
from market.exchange.exchange import Exchange
from market.grid import operations as grid
from market.grid import preview
from market.grid import queries as grid_queries
from market.grid.preview import HaltEffect
from market.households.models import Role
from market.pages.context import local, running_exchange
from market.pages.forms import HaltForm, ResumeForm, SureForm
from market.pages.roles import decide, only_for
from market.pages.zones import market_zone

SHOWN_DECISIONS = 20
SHOWN_STOPPED = 200  # halts in the list
OPERATORS = (Role.OPERATOR, Role.STAFF)


class Stopped(NamedTuple):
    """Where trading is stopped, and the form that lets it go on."""

    scope: str
    target: str
    until_ms: int  # 0 = until somebody ends it
    form: ResumeForm


def next_instant(at: time, now_ms: int) -> int:
    """Return the next instant, ms, at which the market's clock shows a time of day."""
    now = local(now_ms)
    moment = datetime.combine(now.date(), at, tzinfo=market_zone())
    if moment <= now:
        moment = datetime.combine(now.date() + timedelta(days=1), at, tzinfo=market_zone())
    return round(moment.timestamp() * 1000)


def stop(request: HttpRequest, form: HaltForm, *, back: str) -> HttpResponse | bool:
    """Stop trading as a form asks; return whether that was done, or the page that first says what it does.

    ``back`` is the address that page leads to who does not want it.
    """
    exchange = running_exchange()
    if form.is_valid() and not form.cleaned_data["sure"] and exchange is not None:
        scope, target = form.cleaned_data["scope"], form.cleaned_data["target"]
        effect = preview.halt(exchange, scope=scope, target=target)
        if effect is not None:  # else the engine says what is wrong with the target
            return _ask(request, form, effect, back)

    def asked(values: dict[str, Any]) -> dict[str, Any]:
        until, now_ms = values["until"], 0 if exchange is None else exchange.now_ms()
        return {
            "on": True,
            "until_ms": 0 if until is None else next_instant(until, now_ms),
            **{name: values[name] for name in ("scope", "target", "reason", "cancel", "text")},
        }

    sentence = _("Trading is stopped there.")
    if form.is_valid() and form.cleaned_data["cancel"]:
        sentence = _("Trading is stopped there, and all open orders are taken back.")
    if decide(request, form, grid.set_halt, asked, sentence):
        return True
    form.doubt()
    return False


def _ask(request: HttpRequest, form: HaltForm, effect: HaltEffect, back: str) -> HttpResponse:
    context = {
        "form": form,
        "scope": form.cleaned_data["scope"],
        "target": form.cleaned_data["target"],
        "reason": form.cleaned_data["reason"],
        "text": form.cleaned_data["text"],
        "until": form.cleaned_data["until"],
        "kill": form.cleaned_data["cancel"],
        "effect": effect,
        "count": effect.orders,
        "fields": sent_again(request, form),
        "back": back,
    }
    return render(request, "staff/kill.html", context)


def sent_again(request: HttpRequest, form: SureForm) -> list[tuple[str, str]]:
    """Return the fields of the form that was sent, for the button that does what it asks for."""
    sure = form.add_prefix("sure")
    fields = [(name, str(value)) for name, value in request.POST.items() if name not in ("csrfmiddlewaretoken", sure)]
    return [*fields, (sure, "on")]


# --- pages -----------------------------------------------------------------------------------------------------------
@never_cache
@only_for(Role.STAFF)
@require_http_methods(["GET", "POST"])
def staff_halts(request: HttpRequest) -> HttpResponse:
    """Stop trading of the market, a contract, an area or an account."""
    return _halts(request, "staff-halts")


@never_cache
@only_for(*OPERATORS)
@require_http_methods(["GET", "POST"])
def operator_halts(request: HttpRequest) -> HttpResponse:
    """Stop trading of the market, a contract, an area or an account."""
    return _halts(request, "operator-halts")


def _halts(request: HttpRequest, page: str) -> HttpResponse:
    wanted = {name: request.GET[name] for name in ("scope", "target") if name in request.GET}
    form = HaltForm(request.POST) if request.method == "POST" else HaltForm(initial=wanted)
    status = 200
    if request.method == "POST":
        done = stop(request, form, back=reverse(page))
        if isinstance(done, HttpResponse):
            return done
        if done:
            return redirect(page)
        status = 422
    return render(request, "staff/halts.html", _context(form, page), status=status)


@never_cache
@only_for(Role.STAFF)
@require_POST
def staff_resume(request: HttpRequest) -> HttpResponse:
    """Let trading go on where it was stopped."""
    return _resume(request, "staff-halts")


@never_cache
@only_for(*OPERATORS)
@require_POST
def operator_resume(request: HttpRequest) -> HttpResponse:
    """Let trading go on where it was stopped."""
    return _resume(request, "operator-halts")


def _resume(request: HttpRequest, page: str) -> HttpResponse:
    form = ResumeForm(request.POST)
    if not decide(
        request,
        form,
        grid.set_halt,
        lambda asked: {"scope": asked["scope"], "target": asked["target"], "on": False, "reason": "resumed"},
        _("Trading goes on."),
    ):
        for problem in form.non_field_errors() or [_("This form is broken. Load the page again.")]:
            messages.error(request, problem)
    return redirect(page)


def _context(form: HaltForm, page: str) -> dict[str, Any]:
    exchange = running_exchange()
    contracts: list[str] = []
    areas: list[str] = []
    if exchange is not None:
        contracts = [contract.name for contract in grid_queries.contracts(exchange) if contract.state == "open"]
        areas = [area.area for area in grid_queries.areas(exchange)]
    return {
        "tab": "halts",
        "staff": page == "staff-halts",
        "resume": "resume" if page == "staff-halts" else "operator-resume",
        "form": form,
        "stopped": [] if exchange is None else _stopped(exchange),
        "contracts": contracts,
        "areas": areas,
        "decisions": grid_queries.decisions(limit=SHOWN_DECISIONS, kinds=("halt",)),
    }


def _stopped(exchange: Exchange) -> list[Stopped]:
    found = grid_queries.halts(exchange)
    ends = exchange.read(lambda engine: _ends(engine, found.contracts))
    names = [("market", "")] if found.market else []
    names += [("contract", name) for name in found.contracts]
    names += [("area", name) for name in found.areas]
    names += [("account", str(index)) for index in found.accounts]
    return [
        Stopped(
            scope,
            target,
            ends.get(target, 0) if scope == "contract" else 0,
            ResumeForm(initial={"scope": scope, "target": target}, auto_id=f"resume-{n}-%s"),
        )
        for n, (scope, target) in enumerate(names[:SHOWN_STOPPED])
    ]


def _ends(engine: Engine, names: list[str]) -> dict[str, int]:
    return {name: engine.contracts[name].halt_until_ms for name in names if name in engine.contracts}


urlpatterns = [
    path("staff/halts", staff_halts, name="staff-halts"),
    path("staff/halts/resume", staff_resume, name="resume"),
    path("operator/halts", operator_halts, name="operator-halts"),
    path("operator/halts/resume", operator_resume, name="operator-resume"),
]
