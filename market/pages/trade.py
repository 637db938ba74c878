"""The trade page."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.views.decorators.http import require_safe


@require_safe
@login_required
def trade(request: HttpRequest, contract: str = "") -> HttpResponse:
    """Show the book, prices, ticket and orders of one contract."""
    return render(request, "trade/trade.html", {"contract": contract})


urlpatterns = [
    path("trade", trade, name="trade"),
    path("trade/<str:contract>", trade, name="trade-contract"),
]
