"""The REST tree below /api/v1/. The order endpoints stand beside it (``lean``, assembled in ``market.config.asgi``)."""

from __future__ import annotations

from django.urls import path, re_path

from market.api import (
    areas,
    contracts,
    events,
    ledger,
    me,
    operator,
    payments,
    problems,
    readings,
    reference,
    regulator,
    trades,
)

urlpatterns = [
    path("areas", areas.Areas.as_view()),
    path("contracts", contracts.Contracts.as_view()),
    path("contracts/<str:start>/book", contracts.Book.as_view()),
    path("contracts/<str:start>/capacity", contracts.Capacity.as_view()),
    path("trades", trades.Trades.as_view()),
    path("candles", trades.Candles.as_view()),
    path("me", me.Me.as_view()),
    path("me/signing", me.Signing.as_view()),
    path("me/positions", me.Positions.as_view()),
    path("me/balance", me.Balance.as_view()),
    path("me/statement", me.Statement.as_view()),
    path("me/deposits", payments.Deposits.as_view()),
    path("me/withdrawals", payments.Withdrawals.as_view()),
    path("readings", readings.Readings.as_view()),
    path("events", events.Events.as_view()),
    path("ledger/blocks", ledger.Blocks.as_view()),
    path("ledger/entries/<int:seq>", ledger.Entry.as_view()),
    path("ledger/entries/<int:seq>/proof", ledger.Proof.as_view()),
    path("ledger/entries/<int:seq>/receipt", ledger.Receipt.as_view()),
    path("operator/areas/<str:area>/capacity", operator.Capacity.as_view()),
    path("operator/areas/<str:area>/fee", operator.Fee.as_view()),
    path("operator/tariff", operator.Tariff.as_view()),
    path("operator/halts", operator.Halts.as_view()),
    path("operator/params", operator.Params.as_view()),
    path("operator/connections/<str:account_id>", operator.Connection.as_view()),
    path("operator/trades/<int:seq>/recall", operator.Recall.as_view()),
    path("operator/alerts", operator.Alerts.as_view()),
    path("operator/alerts/<int:seq>/acknowledge", operator.Acknowledgement.as_view()),
    path("operator/flows", operator.Flows.as_view()),
    path("operator/settlement", operator.Settlement.as_view()),
    path("regulator/orders", regulator.Orders.as_view()),
    path("regulator/trades", regulator.Trades.as_view()),
    path("regulator/refusals", regulator.Refusals.as_view()),
    path("schema/", reference.schema, name="api-schema"),
    path("docs/", reference.docs, name="api-docs"),
    re_path(r"^(?P<path>.*)$", problems.not_found),
]
