"""`/api/v1/operator/…`: what the grid operator decides. Every decision is an entry of the ledger."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.http import HttpResponse
from rest_framework.request import Request

from market.api import cursors, problems, shapes
from market.api.openapi import describe, query
from market.api.orders_in import price_e4
from market.api.problems import Problem
from market.api.views import ApiView, answer, area_of, contract_of
from market.engine.commands import SetParams
from market.engine.engine import Engine
from market.exchange import operations
from market.exchange.outcomes import Outcome
from market.exchange.units import price_text
from market.grid import operations as grid
from market.households import keys
from market.households.models import Role
from market.settlement import queries as settlement

MAX_INTEGER = 2**53 - 1
MAX_CODE = 32  # characters of a reason


class OperatorView(ApiView):
    """A resource for those who run the grid and the market."""

    roles = frozenset({Role.OPERATOR.value, Role.STAFF.value})
    write_scope = keys.OPERATE

    def decided(
        self, outcome: Outcome, kind: str, *, target: str = "", reason: str = "", **values: int | str
    ) -> HttpResponse:
        """Return the ledger entry of a decision and keep who made it; raise ``Problem`` where the engine refused it."""
        if outcome.refused is not None:
            raise problems.from_refused(outcome.refused)
        if outcome.conflict is not None:
            raise Problem(409, "idempotency_conflict", outcome.conflict)
        made = grid.note(outcome, by=self.request.user, kind=kind, target=target, reason=reason, values=values)
        return answer({"seq": made.seq})


def _price(text: str, field: str) -> int:
    try:
        return price_e4(text)
    except Problem as problem:
        raise Problem(problem.status, problem.code, field) from None


def _bounded(value: int, field: str) -> int:
    if not 0 <= value <= MAX_INTEGER:
        raise Problem(422, "invalid_value", field)
    return value


def _reason(text: str) -> str:
    # A code, never free text: whatever enters the ledger stays there for ever.
    if not (0 < len(text) <= MAX_CODE and text.isascii() and text.replace("_", "").isalnum()):
        raise Problem(422, "invalid_value", "reason")
    return text


class Capacity(OperatorView):
    """What an edge of the grid can carry."""

    @describe("Set capacities", shapes.Decision, tag="operator", body=shapes.CapacityIn, keyed=True)
    def put(self, request: Request, area: str) -> HttpResponse:
        """Set what the edge between an area and its parent can carry."""
        body = self.decode(shapes.CapacityIn)
        import_w, export_w = _bounded(body.import_w, "import_w"), _bounded(body.export_w, "export_w")
        reason, name = _reason(body.reason), area_of(area)
        outcome = operations.set_capacity(
            self.exchange(),
            area=name,
            import_w=import_w,
            export_w=export_w,
            reason=reason,
            key=self.idempotency_key(),
        )
        return self.decided(outcome, "capacity", target=name, reason=reason, import_w=import_w, export_w=export_w)


class Fee(OperatorView):
    """A grid fee."""

    @describe("Set a grid fee", shapes.Decision, tag="operator", body=shapes.FeeIn, keyed=True)
    def put(self, request: Request, area: str) -> HttpResponse:
        """Set the fee of the edge between an area and its parent, for contracts opened from now on."""
        body = self.decode(shapes.FeeIn)
        fee_e4 = _price(body.fee, "fee")
        name = area_of(area)
        outcome = operations.set_fee(self.exchange(), area=name, fee_e4=fee_e4, key=self.idempotency_key())
        return self.decided(outcome, "fee", target=name, fee_e4=fee_e4)


class Tariff(OperatorView):
    """The supplier of last resort."""

    @describe("Set the tariff", shapes.Decision, tag="operator", body=shapes.TariffIn, keyed=True)
    def put(self, request: Request) -> HttpResponse:
        """Set top-up and spill price, for contracts opened from now on."""
        body = self.decode(shapes.TariffIn)
        topup_e4, spill_e4 = _price(body.topup_price, "topup_price"), _price(body.spill_price, "spill_price")
        outcome = operations.set_tariff(
            self.exchange(), topup_e4=topup_e4, spill_e4=spill_e4, key=self.idempotency_key()
        )
        return self.decided(outcome, "tariff", topup_e4=topup_e4, spill_e4=spill_e4)


class Halts(OperatorView):
    """The switches that stop trading."""

    @describe("Halt or resume trading", shapes.Decision, tag="operator", body=shapes.HaltIn, keyed=True)
    def put(self, request: Request) -> HttpResponse:
        """Stop or resume trading of the market, a contract, an area or an account."""
        body = self.decode(shapes.HaltIn)
        target = body.target
        if len(target) > 64 or not (target.isprintable() or not target):
            raise Problem(422, "invalid_value", "target")
        reason = _reason(body.reason)
        outcome = operations.set_halt(
            self.exchange(),
            scope=body.scope,
            target=target,
            on=body.on,
            reason=reason,
            key=self.idempotency_key(),
        )
        return self.decided(outcome, "halt", target=target, reason=reason, scope=body.scope, on=int(body.on))


def _params(engine: Engine) -> dict[str, Any]:
    params = engine.params
    return {
        "max_price": price_text(params.max_price_e4),
        "tick": price_text(params.tick_e4),
        "max_order_wh": params.max_order_wh,
        "max_open_orders": params.max_open_orders,
        "horizon_min": params.horizon_min,
        "lead_min": params.lead_min,
        "netting_permille": params.netting_permille,
    }


class Params(OperatorView):
    """The limits of the market."""

    @describe("The market's limits", shapes.Params, tag="operator")
    def get(self, request: Request) -> HttpResponse:
        """Return the limits in force."""
        self.query()
        return answer(self.exchange().read(_params))

    @describe("Set the market's limits", shapes.Decision, tag="operator", body=shapes.Params, keyed=True)
    def put(self, request: Request) -> HttpResponse:
        """Set all limits at once."""
        body = self.decode(shapes.Params)
        params = SetParams(
            max_price_e4=_price(body.max_price, "max_price"),
            tick_e4=_price(body.tick, "tick"),
            max_order_wh=_bounded(body.max_order_wh, "max_order_wh"),
            max_open_orders=_bounded(body.max_open_orders, "max_open_orders"),
            horizon_min=_bounded(body.horizon_min, "horizon_min"),
            lead_min=_bounded(body.lead_min, "lead_min"),
            netting_permille=_bounded(body.netting_permille, "netting_permille"),
        )
        outcome = operations.set_params(self.exchange(), params=params, key=self.idempotency_key())
        return self.decided(outcome, "params", **params._asdict())


def _flows(contract: str, engine: Engine) -> list[dict[str, Any]]:
    if contract not in engine.contracts:
        raise Problem(404, "unknown_contract", "contract")
    return [
        {
            "area": area,
            "import_wh": flow.import_wh,
            "export_wh": flow.export_wh,
            "import_capacity_wh": flow.import_capacity_wh,
            "export_capacity_wh": flow.export_capacity_wh,
        }
        for area, flow in engine.flows(contract).items()
    ]


class Flows(OperatorView):
    """Traded flows against capacities."""

    roles = OperatorView.roles | {Role.REGULATOR.value}

    @describe(
        "Flows against capacities",
        shapes.FlowPage,
        tag="operator",
        parameters=(query("contract", "the contract, required"),),
    )
    def get(self, request: Request) -> HttpResponse:
        """Return the traded flow over every edge in one contract."""
        query = self.query("contract")
        if "contract" not in query:
            raise Problem(400, "missing_field", "contract")
        rows = self.exchange().read(partial(_flows, contract_of(query["contract"])))
        return answer({"results": rows, "next": None})


class Settlement(OperatorView):
    """How far settlement has come."""

    roles = OperatorView.roles | {Role.REGULATOR.value}

    @describe(
        "The settlement board",
        shapes.SettlementPage,
        tag="operator",
        parameters=(query("limit", f"1 to {settlement.MAX_BOARD}", int),),
    )
    def get(self, request: Request) -> HttpResponse:
        """Return contracts whose gate has closed, newest first."""
        query = self.query("limit")
        limit = cursors.integer(query, "limit", low=1, high=settlement.MAX_BOARD) or settlement.MAX_BOARD
        rows = settlement.board(self.exchange(), limit)
        return answer(
            {
                "results": [
                    {
                        "contract": row.contract,
                        "state": row.state,
                        "settled_areas": row.settled_areas,
                        "missing_readings": row.missing_readings,
                    }
                    for row in rows
                ],
                "next": None,
            }
        )
