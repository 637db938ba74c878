"""The order endpoints: a small ASGI application beside Django, for the calls that must be fast (ADR 3).

Same keys, sessions, CSRF rules, errors and OpenAPI document as the rest of the API. An order costs about 50 µs here,
most of it the server's; a framework view costs 800.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import orjson
from django.utils import translation

from market.api import access, complex_in, cursors, http, orders_in, orders_out, problems, waiting
from market.api.http import MAX_BASKET_BYTES, MAX_BATCH_BYTES, MAX_ORDER_BYTES, Disconnected, Receive, Scope, Send
from market.api.problems import Problem
from market.api.threads import LOOKUPS, Busy
from market.engine.commands import (
    AmendOrder,
    CancelAll,
    CancelOrder,
    HibernateOrder,
    PlaceBasket,
    PlaceBlock,
    PlaceIceberg,
    PlaceOrder,
    PlaceSweep,
    ReactivateOrder,
)
from market.engine.engine import Engine
from market.engine.events import OrderCancelled
from market.exchange import gateway, queries
from market.exchange.exchange import batch_keys
from market.exchange.openorders import open_ids
from market.exchange.outcomes import NotRunning, Outcome
from market.households import keys
from market.households import queries as households
from market.households.identities import Identity
from market.streaming.access import Viewer

PATH = "/api/v1/orders"
MAX_ID_DIGITS = 16
# Requests under way; each holds at most a batch's body. Beyond this the queue of the exchange is full as well.
MAX_IN_FLIGHT = 4_000

_REPLAYED = ((b"idempotency-replayed", b"true"),)
_ALL_QUERY = frozenset({"contract"})
_LIST_QUERY = frozenset({"contract", "state", "limit", "cursor"})
_NO_QUERY: frozenset[str] = frozenset()
STATES = ("open", "hibernated", "filled", "cancelled", "expired")
OPEN_STATES = frozenset({"open", "hibernated"})  # may still trade
_SCANNED_PAGES = 10  # a list of one state looks through so many pages of orders before it answers with what it has

Body = tuple[int, bytes, tuple[tuple[bytes, bytes], ...]]
_in_flight = 0


def serves(path: str) -> bool:
    """Whether this application answers for a path."""
    return path.startswith(PATH) and (len(path) == len(PATH) or path[len(PATH)] == "/")


async def order_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one request under /api/v1/orders. Whatever happens, the answer is JSON and no 500."""
    global _in_flight
    _in_flight += 1
    try:
        if _in_flight > MAX_IN_FLIGHT:
            raise problems.overloaded()
        status, body, headers = await _route(scope, receive)
    except asyncio.CancelledError:
        raise
    except Disconnected:
        return
    except Busy:
        await http.answer_problem(scope, send, problems.overloaded())
    except Exception as error:
        await http.answer_problem(scope, send, problems.from_error(error) or problems.unexpected(error))
    else:
        await http.answer(send, status, body, headers)
    finally:
        _in_flight -= 1


async def _route(scope: Scope, receive: Receive) -> Body:
    authorization = cookie = key = content_type = host = length = None
    for name, value in scope["headers"]:
        if name == b"authorization":
            authorization = value
        elif name == b"content-type":
            content_type = value
        elif name == b"content-length":
            length = value
        elif name == b"idempotency-key":
            key = value
        elif name == b"host":
            host = value
        elif name == b"cookie":
            # HTTP/2 proxies may split it.
            cookie = value if cookie is None else cookie + b"; " + value
    if host is None or not http.host_allowed(host):
        raise Problem(400, "bad_request", "Host")
    rest = scope["path"][len(PATH) :]
    method = scope["method"]
    handlers, order_id = _find(rest)
    handler = handlers.get("GET" if method == "HEAD" else method)
    if handler is None:
        raise Problem(405, "method_not_allowed", headers=(("Allow", ", ".join(handlers)),))
    identity = await access.identify(scope, authorization, cookie)
    access.need_scope(identity, keys.READ if method in access.SAFE_METHODS else keys.TRADE)
    return await handler(
        _Call(scope, receive, identity, access.need_account(identity), order_id, _key_of(key), content_type, length)
    )


class _Call:
    """A request whose caller is known."""

    __slots__ = ("account", "content_type", "identity", "key", "length", "order_id", "receive", "scope")

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        identity: Identity,
        account: int,
        order_id: int,
        key: str | None,
        content_type: bytes | None,
        length: bytes | None,
    ):
        self.scope = scope
        self.receive = receive
        self.identity = identity
        self.account = account
        self.order_id = order_id
        self.key = key
        self.content_type = content_type
        self.length = length

    @property
    def viewer(self) -> Viewer:
        """Who is asking, as the streams know it."""
        identity = self.identity
        return Viewer(identity.user_id, identity.role, identity.account_index, identity.area, True)

    async def body(self, limit: int) -> bytes:
        """Return the JSON body; raise ``Problem`` 413 or 415."""
        body = await http.read_body(self.receive, self.length, limit)
        kind = self.content_type
        if kind != b"application/json" and (kind is None or not http.is_json_type(kind.decode("latin-1"))):
            raise Problem(415, "unsupported_media_type", "Content-Type")
        return body


def _key_of(raw: bytes | None) -> str | None:
    return None if raw is None else orders_in.idempotency_key(raw.decode("latin-1"))


def _done(outcome: Outcome, field: str = "Idempotency-Key") -> tuple[tuple[bytes, bytes], ...]:
    """Return the extra headers of a successful outcome; raise ``Problem`` for any other."""
    if outcome.refused is not None:
        raise problems.from_refused(outcome.refused)
    if outcome.conflict is not None:
        raise Problem(409, "idempotency_conflict", outcome.conflict or field)
    return _REPLAYED if outcome.repeated else ()


def _is_unknown(outcome: Outcome) -> bool:
    return outcome.refused is not None and outcome.refused.code == "unknown_contract"


async def _past(names: set[str]) -> dict[str, str]:
    """Return the states of those contracts, unknown to the engine, that the market once had: it forgets settled ones."""
    return await LOOKUPS.run(queries.contract_states, names)


def _gate_closed() -> Problem:
    return Problem(409, "gate_closed", "contract")


# --- writing ---------------------------------------------------------------------------------------------------------
async def _post_order(call: _Call) -> Body:
    order = orders_in.decode_order(await call.body(MAX_ORDER_BYTES))
    http.query_of(call.scope, _NO_QUERY)
    command = orders_in.place_order(order, call.account)
    outcome = await gateway.current().aexecute(command, key=call.key)
    if _is_unknown(outcome) and await _past({command.contract}):
        raise _gate_closed()
    headers = _done(outcome)
    return 201, orjson.dumps(orders_out.placed(outcome)), headers


async def _post_batch(call: _Call) -> Body:
    items = orders_in.decode_batch(await call.body(MAX_BATCH_BYTES))
    http.query_of(call.scope, _NO_QUERY)
    commands: list[PlaceOrder | PlaceIceberg] = []
    answers: list[Any] = []
    for item in items:
        if not isinstance(item, Problem):
            try:
                command = orders_in.place_order(item, call.account)
            except Problem as problem:
                item = problem
            else:
                commands.append(command)
                answers.append(None)
                continue
        answers.append(item)
    pairs = batch_keys(commands, call.key)
    if call.key is not None and len(commands) < len(items):
        # Item i keeps the key KEY#i, whatever became of its neighbours.
        places = [i for i, found in enumerate(answers) if found is None]
        pairs = [(command, f"{call.key}#{i}") for i, command in zip(places, commands, strict=True)]
    done = await gateway.current().aexecute_many(pairs)
    unknown = {c.contract for c, outcome in zip(commands, done, strict=True) if _is_unknown(outcome)}
    past = await _past(unknown) if unknown else {}
    outcomes = iter(zip(commands, done, strict=True))
    results = []
    for found in answers:
        try:
            if found is not None:
                raise found
            command, outcome = next(outcomes)
            if _is_unknown(outcome) and command.contract in past:
                raise _gate_closed()
            _done(outcome)
        except Problem as problem:
            results.append({"status": problem.status, "problem": http.problem_dict(call.scope, problem)})
        else:
            results.append({"status": 201, **orders_out.placed(outcome)})
    return 200, orjson.dumps({"results": results}), ()


async def _post_sweep(call: _Call) -> Body:
    command = complex_in.decode_sweep(await call.body(MAX_ORDER_BYTES), call.account)
    return await _place(call, command, {"contract": command.contract, "last": command.last})


async def _post_block(call: _Call) -> Body:
    command = complex_in.decode_block(await call.body(MAX_ORDER_BYTES), call.account)
    return await _place(call, command, {"contract": command.contract, "last": command.last})


async def _post_basket(call: _Call) -> Body:
    legs = complex_in.decode_basket(await call.body(MAX_BASKET_BYTES))
    mine: dict[str, int] = {}
    if complex_in.names_accounts(legs):
        mine = await LOOKUPS.run(households.accounts_by_id, call.identity.user_id)
    command = complex_in.place_basket(legs, call.account, mine)
    return await _place(call, command, {f"legs[{i}].contract": leg.contract for i, leg in enumerate(command.legs)})


async def _place(call: _Call, command: PlaceSweep | PlaceBlock | PlaceBasket, contracts: dict[str, str]) -> Body:
    """Place an order; ``contracts`` are those it names, by field."""
    http.query_of(call.scope, _NO_QUERY)
    outcome = await gateway.current().aexecute(command, key=call.key)
    if _is_unknown(outcome):
        field = problems.rest_field(outcome.refused.field)  # type: ignore[union-attr]
        if field in contracts and await _past({contracts[field]}):
            raise Problem(409, "gate_closed", field)
    headers = _done(outcome)
    return 201, orjson.dumps(orders_out.placed(outcome)), headers


async def _hibernate(call: _Call) -> Body:
    http.query_of(call.scope, _NO_QUERY)
    return await _change(call, HibernateOrder(call.account, call.order_id))


async def _reactivate(call: _Call) -> Body:
    http.query_of(call.scope, _NO_QUERY)
    return await _change(call, ReactivateOrder(call.account, call.order_id))


async def _patch_order(call: _Call) -> Body:
    command = orders_in.decode_amend(await call.body(MAX_ORDER_BYTES), call.account, call.order_id)
    http.query_of(call.scope, _NO_QUERY)
    return await _change(call, command)


async def _delete_order(call: _Call) -> Body:
    http.query_of(call.scope, _NO_QUERY)
    return await _change(call, CancelOrder(call.account, call.order_id, "owner"))


async def _change(call: _Call, command: AmendOrder | CancelOrder | HibernateOrder | ReactivateOrder) -> Body:
    outcome = await gateway.current().aexecute(command, key=call.key)
    refused = outcome.refused
    if refused is not None and refused.code == "unknown_order":
        mine = await LOOKUPS.run(_own_order, call.account, call.order_id)
        if mine is not None:
            raise Problem(409, "order_not_open", "order")
    headers = _done(outcome)
    seq = outcome.events[-1].seq  # type: ignore[union-attr]
    body = await LOOKUPS.run(_order_with_trades, call.account, call.order_id, outcome.events[0].seq)  # type: ignore[union-attr]
    if body is None:
        raise Problem(404, "unknown_order", "order")
    return 200, orjson.dumps({**body, "seq": seq}), headers


async def _delete_all(call: _Call) -> Body:
    query = http.query_of(call.scope, _ALL_QUERY)
    contract = query.get("contract", "")
    if "contract" in query and (len(contract) != orders_in.CONTRACT_LENGTH or not contract.isascii()):
        raise Problem(422, "unknown_contract", "contract")
    outcome = await gateway.current().aexecute(CancelAll(call.account, contract, "owner"), key=call.key)
    if _is_unknown(outcome) and await _past({contract}):
        return 200, orjson.dumps({"cancelled": [], "seq": None}), ()
    headers = _done(outcome)
    cancelled = [event.order for event in outcome.events if type(event) is OrderCancelled]
    seq = outcome.events[-1].seq if outcome.events else None  # type: ignore[union-attr]
    return 200, orjson.dumps({"cancelled": cancelled, "seq": seq}), headers


# --- reading ---------------------------------------------------------------------------------------------------------
def _own_order(account: int, order_id: int) -> queries.OrderView | None:
    view = queries.order(order_id)
    return view if view is not None and view.account == account else None


def _order_with_trades(account: int, order_id: int, since: int = 0) -> dict[str, Any] | None:
    view = _own_order(account, order_id)
    if view is None:
        return None
    trades = [orders_out.trade_of(trade, view) for trade in queries.trades_of_order(view) if trade.seq >= since]
    return {"order": orders_out.order_out(view), "trades": trades}


async def _get_order(call: _Call) -> Body:
    http.query_of(call.scope, _NO_QUERY)
    body = await LOOKUPS.run(_order_explained, call, http.accepted_language(call.scope))
    if body is None:
        raise Problem(404, "unknown_order", "order")
    return 200, orjson.dumps(body), ()


def _order_explained(call: _Call, language: str) -> dict[str, Any] | None:
    view = _own_order(call.account, call.order_id)
    if view is None:
        return None
    trades = [orders_out.trade_of(trade, view) for trade in queries.trades_of_order(view)]
    return {"order": _explained([view], call.viewer, language)[0], "trades": trades}


def _explained(views: list[queries.OrderView], viewer: Viewer, language: str) -> list[dict[str, Any]]:
    """Return orders with the reason why they wait, in a language."""
    found = waiting.look(views, viewer)
    with translation.override(language):
        return [waiting.add(orders_out.order_out(view), view, found) for view in views]


def _own_orders(
    call: _Call, language: str, contract: str | None, state: str | None, before: int | None, limit: int
) -> dict[str, Any]:
    opened = None if state not in OPEN_STATES else _open_ids(call.account, contract, state, before, limit + 1)
    if opened is None:
        found, position = _scan(call.account, contract, state, before, limit)
    else:
        # Something may have become of them since the engine said so.
        found = [row for row in queries.orders_by_id(call.account, opened[:limit]) if row.status == state]
        position = opened[limit - 1] if len(opened) > limit else None
    return {
        "results": _explained(found, call.viewer, language),
        "next": None if position is None else cursors.encode(position),
    }


def _open_ids(account: int, contract: str | None, state: str, before: int | None, limit: int) -> list[int] | None:
    """Return ids of open orders, newest first; None while the engine cannot be asked."""

    def read(engine: Engine) -> list[int]:
        return open_ids(engine, account, limit=limit, contract=contract, asleep=state == "hibernated", before=before)

    with suppress(NotRunning):
        return gateway.current().read(read)
    return None


def _scan(
    account: int, contract: str | None, state: str | None, before: int | None, limit: int
) -> tuple[list[queries.OrderView], int | None]:
    """Return orders, newest first, and where the rest of the list begins; None when there is none."""
    found: list[queries.OrderView] = []
    more = True
    for _ in range(_SCANNED_PAGES):
        rows = queries.orders(account=account, contract=contract, before=before, limit=limit + 1)
        more = len(rows) > limit
        rows = rows[:limit]
        before = rows[-1].id if rows else before
        for row in rows:
            if state is None or (orders_out.EXPIRED if row.reason == orders_out.EXPIRED else row.status) == state:
                found.append(row)
                if len(found) == limit:
                    more = more or row is not rows[-1]
                    before = row.id
                    break
        if not more or len(found) == limit:
            break
    return found, before if more else None


async def _get_orders(call: _Call) -> Body:
    query = http.query_of(call.scope, _LIST_QUERY)
    contract = query.get("contract")
    if contract is not None and (len(contract) != orders_in.CONTRACT_LENGTH or not contract.isascii()):
        raise Problem(422, "unknown_contract", "contract")
    state = query.get("state")
    if state is not None and state not in STATES:
        raise Problem(400, "invalid_value", "state")
    before, limit = cursors.number_cursor(query), cursors.limit_of(query)
    language = http.accepted_language(call.scope)
    return 200, orjson.dumps(await LOOKUPS.run(_own_orders, call, language, contract, state, before, limit)), ()


# --- routes ----------------------------------------------------------------------------------------------------------
Handler = Callable[[_Call], Awaitable[Body]]
_COLLECTION: dict[str, Handler] = {"GET": _get_orders, "POST": _post_order, "DELETE": _delete_all}
_NAMED: dict[str, dict[str, Handler]] = {
    "batch": {"POST": _post_batch},
    "sweep": {"POST": _post_sweep},
    "block": {"POST": _post_block},
    "basket": {"POST": _post_basket},
}
_ONE: dict[str, Handler] = {"GET": _get_order, "PATCH": _patch_order, "DELETE": _delete_order}
_ACTIONS: dict[str, dict[str, Handler]] = {"hibernate": {"POST": _hibernate}, "reactivate": {"POST": _reactivate}}


def _find(rest: str) -> tuple[dict[str, Handler], int]:
    """Return the handlers of a path behind ``PATH`` and the order's id in it (0 where there is none)."""
    if not rest:
        return _COLLECTION, 0
    if rest[1:] in _NAMED and rest[0] == "/":
        return _NAMED[rest[1:]], 0
    digits, slash, action = rest[1:].partition("/")
    handlers = _ACTIONS.get(action) if slash else _ONE
    if handlers is None or rest[0] != "/":
        raise Problem(404, "not_found")
    if not (0 < len(digits) <= MAX_ID_DIGITS and digits.isascii() and digits.isdigit()):
        raise Problem(404, "not_found")
    return handlers, int(digits)
