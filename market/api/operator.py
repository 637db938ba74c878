"""`/api/v1/operator/…`: what the grid operator decides. Every decision is an entry of the ledger."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from django.http import HttpResponse
from rest_framework.request import Request

from market.api import cursors, problems, shapes
from market.api.openapi import PAGE, describe, query
from market.api.orders_in import MAX_AT_MS, price_e4
from market.api.problems import Problem
from market.api.views import ApiView, answer, area_of, contract_of
from market.engine.engine import Engine
from market.exchange import operations, queries
from market.exchange.alerts import with_area
from market.exchange.outcomes import Outcome
from market.exchange.units import at_text, money_text, parse_at, price_text
from market.grid import operations as grid
from market.grid import queries as grid_queries
from market.grid.operations import GridError
from market.households import keys
from market.households.models import Role
from market.settlement import board
from market.settlement import queries as settlement

MAX_INTEGER = 2**53 - 1
MAX_HEX = 64  # characters of a commitment
ACCOUNT_ID_LENGTH = 32
HEX = frozenset("0123456789abcdef")


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

    def sent(self, kind: str, body: Any, send: Callable[..., Outcome], key_scope: int = -1, **values: Any) -> Outcome:
        """Send a decision with its reason, the commitment to its words, and the Idempotency-Key (in a ``key_scope``).

        Raise ``Problem`` for a code that is not of the list, or words that are too long.
        """
        exchange, key = self.exchange(), self.idempotency_key()
        try:
            why = grid.why_of(exchange, kind, reason=body.reason, text=body.text, key=key, scope=key_scope)
        except GridError as error:
            raise Problem(422, error.code, error.field) from None
        return grid.sent(exchange, partial(send, exchange, **values), why)


def _price(text: str, field: str) -> int:
    try:
        return price_e4(text)
    except Problem as problem:
        raise Problem(problem.status, problem.code, field) from None


def _bounded(value: int, field: str) -> int:
    if not 0 <= value <= MAX_INTEGER:
        raise Problem(422, "invalid_value", field)
    return value


def _until(text: str | None) -> int:
    if text is None:
        return 0
    try:
        until_ms = parse_at(text)
    except (ValueError, OverflowError):
        raise Problem(422, "invalid_value", "until") from None
    if not 0 < until_ms <= MAX_AT_MS:
        raise Problem(422, "invalid_value", "until")
    return until_ms


class Capacity(OperatorView):
    """What an edge of the grid can carry."""

    @describe("Set capacities", shapes.Decision, tag="operator", body=shapes.CapacityIn, keyed=True)
    def put(self, request: Request, area: str) -> HttpResponse:
        """Set what the edge between an area and its parent can carry."""
        body = self.decode(shapes.CapacityIn)
        import_w, export_w = _bounded(body.import_w, "import_w"), _bounded(body.export_w, "export_w")
        name = area_of(area)
        values = {"area": name, "import_w": import_w, "export_w": export_w}
        outcome = self.sent("capacity", body, operations.set_capacity, **values)
        return self.decided(outcome, "capacity", target=name, reason=body.reason, import_w=import_w, export_w=export_w)


class Fee(OperatorView):
    """A grid fee."""

    @describe("Set a grid fee", shapes.Decision, tag="operator", body=shapes.FeeIn, keyed=True)
    def put(self, request: Request, area: str) -> HttpResponse:
        """Set the fee of the edge between an area and its parent, for contracts opened from now on."""
        body = self.decode(shapes.FeeIn)
        fee_e4 = _price(body.fee, "fee")
        name = area_of(area)
        outcome = self.sent("fee", body, operations.set_fee, area=name, fee_e4=fee_e4)
        return self.decided(outcome, "fee", target=name, reason=body.reason, fee_e4=fee_e4)


class Tariff(OperatorView):
    """The supplier of last resort."""

    @describe("Set the tariff", shapes.Decision, tag="operator", body=shapes.TariffIn, keyed=True)
    def put(self, request: Request) -> HttpResponse:
        """Set top-up and spill price, for contracts opened from now on."""
        body = self.decode(shapes.TariffIn)
        topup_e4, spill_e4 = _price(body.topup_price, "topup_price"), _price(body.spill_price, "spill_price")
        outcome = self.sent("tariff", body, operations.set_tariff, topup_e4=topup_e4, spill_e4=spill_e4)
        return self.decided(outcome, "tariff", reason=body.reason, topup_e4=topup_e4, spill_e4=spill_e4)


class Halts(OperatorView):
    """The switches that stop trading."""

    @describe("Halt or resume trading", shapes.Decision, tag="operator", body=shapes.HaltIn, keyed=True)
    def put(self, request: Request) -> HttpResponse:
        """Stop or resume trading of the market, a contract, an area or an account.

        `until` gives a contract's halt an end; `cancel` is the kill switch: all open orders in the scope are taken back.
        """
        body = self.decode(shapes.HaltIn)
        target = body.target
        if len(target) > 64 or not (target.isprintable() or not target):
            raise Problem(422, "invalid_value", "target")
        until_ms = _until(body.until)
        halt: dict[str, Any] = {"scope": body.scope, "on": body.on, "until_ms": until_ms, "cancel": body.cancel}
        outcome = self.sent("halt", body, operations.set_halt, target=target, **halt)
        return self.decided(outcome, "halt", target=target, reason=body.reason, **grid.halt_values(**halt))


_LATER_LIMITS = (
    "collar_period_s", "collar_halt_s", "throttle_per_min", "throttle_burst", "throttle_credit", "connection_import_w",
    "connection_export_w", "final_after_min",
    "sharing_scope",
)  # fmt: skip


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
        "collar": price_text(params.collar_e4),
        **{name: getattr(params, name) for name in _LATER_LIMITS},
    }


class Params(OperatorView):
    """The limits of the market."""

    @describe("The market's limits", shapes.Params, tag="operator")
    def get(self, request: Request) -> HttpResponse:
        """Return the limits in force."""
        self.query()
        return answer(self.exchange().read(_params))

    @describe("Set the market's limits", shapes.Decision, tag="operator", body=shapes.ParamsIn, keyed=True)
    def put(self, request: Request) -> HttpResponse:
        """Set all limits at once; of those from `collar` on, what is absent stays as it is."""
        body = self.decode(shapes.ParamsIn)
        given = {name: getattr(body, name) for name in _LATER_LIMITS if getattr(body, name) is not None}
        later = {name: _bounded(value, name) for name, value in given.items()}
        if body.collar is not None:
            later["collar_e4"] = _price(body.collar, "collar")
        params = grid_queries.params(self.exchange())._replace(
            max_price_e4=_price(body.max_price, "max_price"),
            tick_e4=_price(body.tick, "tick"),
            max_order_wh=_bounded(body.max_order_wh, "max_order_wh"),
            max_open_orders=_bounded(body.max_open_orders, "max_open_orders"),
            horizon_min=_bounded(body.horizon_min, "horizon_min"),
            lead_min=_bounded(body.lead_min, "lead_min"),
            netting_permille=_bounded(body.netting_permille, "netting_permille"),
            **later,
        )
        outcome = self.sent("params", body, operations.set_params, params=params)
        return self.decided(outcome, "params", reason=body.reason, **grid.limits_of(params))


class Connection(OperatorView):
    """What a grid connection may take and give."""

    @describe("Limit a connection", shapes.Decision, tag="operator", body=shapes.ConnectionIn, keyed=True)
    def put(self, request: Request, account_id: str) -> HttpResponse:
        """Set what the grid connection of an account may take and give in any interval, whoever trades for it."""
        body = self.decode(shapes.ConnectionIn)
        import_w, export_w = _bounded(body.import_w, "import_w"), _bounded(body.export_w, "export_w")
        if len(body.connection) > MAX_HEX or not set(body.connection) <= HEX:
            raise Problem(422, "invalid_value", "connection")
        known = len(account_id) == ACCOUNT_ID_LENGTH and set(account_id) <= HEX
        account = queries.account_by_id(account_id) if known else None
        if account is None:
            raise Problem(404, "unknown_account", "account_id")
        limits: dict[str, int | str] = {"connection": body.connection, "import_w": import_w, "export_w": export_w}
        outcome = self.sent("connection", body, operations.set_connection, account, account=account, **limits)
        return self.decided(outcome, "connection", target=str(account), reason=body.reason, **limits)


class Recall(OperatorView):
    """Trades that the market operator takes back."""

    roles = frozenset({Role.STAFF.value})

    @describe("Take a trade back", shapes.Decision, tag="operator", body=shapes.RecallIn, keyed=True)
    def post(self, request: Request, seq: int) -> HttpResponse:
        """Take a trade back before its delivery: money, positions and capacity are as if it had not been."""
        body = self.decode(shapes.RecallIn)
        if seq > MAX_INTEGER:
            raise Problem(404, "unknown_trade", "trade")
        outcome = self.sent("recall", body, operations.recall_trade, trade=seq)
        refusal = outcome.refused
        if refusal is not None and refusal.code == "unknown_trade" and queries.trades(after=seq - 1, before=seq + 1):
            raise Problem(409, "contract_state", "contract")  # the engine forgets settled ones
        return self.decided(outcome, "recall", target=str(seq), reason=body.reason)


class Alerts(OperatorView):
    """What the grid operator must look at."""

    roles = OperatorView.roles | {Role.REGULATOR.value}

    @describe(
        "Alerts",
        shapes.AlertPage,
        tag="operator",
        parameters=(*PAGE, query("state", f"only those in this state: {', '.join(grid_queries.ALERT_STATES)}")),
    )
    def get(self, request: Request) -> HttpResponse:
        """Return alerts, newest first."""
        query = self.query("limit", "cursor", "state")
        before, limit, state = cursors.number_cursor(query), cursors.limit_of(query), query.get("state", "")
        if "state" in query and state not in grid_queries.ALERT_STATES:
            raise Problem(400, "invalid_value", "state")
        rows = grid_queries.alerts(before=before, limit=limit + 1, state=state)
        return answer(cursors.page(rows, limit, lambda row: row.seq, _alert))


class Acknowledgement(OperatorView):
    """That somebody has seen an alert."""

    @describe("Acknowledge an alert", shapes.Alert, tag="operator", body=shapes.AcknowledgeIn, keyed=True)
    def post(self, request: Request, seq: int) -> HttpResponse:
        """Note that the caller has seen an alert; the first one who did stays, so doing it again changes nothing.

        A body is not needed; it may carry a note.
        """
        self.query()
        self.idempotency_key()
        text = self.decode(shapes.AcknowledgeIn).note if request._request.body else ""
        if len(text) > grid.MAX_NOTE:
            raise Problem(422, "invalid_value", "note")
        noted = None
        if seq <= MAX_INTEGER:
            noted = grid.acknowledge(by=request.user, seq=seq, at_ms=self.exchange().now_ms(), text=text)
        found = None if noted is None else grid_queries.alert(seq)
        if found is None:
            raise Problem(404, "unknown_alert", "id")
        return answer(_alert(found))


def _alert(row: grid_queries.Alert) -> dict[str, Any]:
    seen = row.acknowledged_by != ""
    return {
        "id": row.seq,
        "at": at_text(row.at_ms),
        "kind": row.kind,
        "reason": row.detail["reason"],
        "area": row.area or None,
        "contract": row.contract or None,
        "until": row.detail.get("until"),
        "contracts": with_area(row.detail.get("contracts", []), row.area),
        "witnesses": list(row.detail.get("witnesses", ())),
        "acknowledged_by": row.acknowledged_by or None,
        "acknowledged_at": at_text(row.acknowledged_at_ms) if seen else None,
        "note": row.note or None,
    }


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
            "import_residual_wh": flow.import_residual_wh,
            "export_residual_wh": flow.export_residual_wh,
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
        parameters=(
            query("limit", f"1 to {settlement.MAX_BOARD}", int),
            PAGE[1],
            query("stage", f"only those in this stage: {', '.join(board.STAGES)}"),
        ),
    )
    def get(self, request: Request) -> HttpResponse:
        """Return contracts whose gate has closed, newest first."""
        query = self.query("limit", "cursor", "stage")
        limit = cursors.integer(query, "limit", low=1, high=settlement.MAX_BOARD) or settlement.MAX_BOARD
        stage, before = query.get("stage", ""), cursors.name_cursor(query) or None
        if "stage" in query and stage not in board.STAGES:
            raise Problem(400, "invalid_value", "stage")
        try:
            found = board.page(self.exchange(), before=before, stage=stage, limit=limit)
        except ValueError:
            raise Problem(400, "invalid_cursor", "cursor") from None
        following = None if found.next is None else cursors.encode(found.next)
        results = [_settlement(row) for row in found.intervals]
        return answer({"results": results, "next": following, "outstanding": _outstanding()})


def _outstanding() -> dict[str, Any]:
    found = board.outstanding()
    return {
        "unsettled": money_text(found.clearing_e7),
        "supply_bills": money_text(found.bill_e7),
        "arrears": money_text(found.arrears_e7),
        "members_in_arrears": found.arrears,
    }


def _corrected(found: board.Corrected) -> dict[str, Any]:
    return {
        "entries": found.entries,
        "accounts": found.accounts,
        "short": money_text(found.short_e7),
        "topup": money_text(found.topup_e7),
        "spill": money_text(found.spill_e7),
    }


def _settlement(row: board.Interval) -> dict[str, Any]:
    return {
        "contract": row.contract,
        "state": row.state,
        "settled_areas": row.settled_areas,
        "missing_readings": row.missing,
        "stage": row.stage,
        "accounts": row.accounts,
        "estimated": row.estimated,
        "outstanding": money_text(row.outstanding_e7),
        "deadline": at_text(row.deadline_ms),
        "waits": [wait._asdict() for wait in row.waits],
        "corrected": None if row.corrected is None else _corrected(row.corrected),
    }
