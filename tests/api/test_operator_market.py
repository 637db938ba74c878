"""`/api/v1/operator/…`: connections, recalls, alerts, halts with an end, the kill switch, the later limits."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ledger import cosigning
from ledger import queries as ledger_queries
from market.api import shapes
from market.exchange import operations
from market.exchange.units import at_text
from market.grid import queries as grid
from market.grid.models import Acknowledgement, Words
from tests.api.conftest import City, Person, refused, shaped
from tests.api.test_operator import PARAMS, entry, put

BASE = "/api/v1/operator"
ROOMY = {"import_w": 100_000, "export_w": 100_000}


def recall(person: Person, seq: int, reason: str = "error", **kwargs: Any) -> Any:
    return person.request("POST", f"{BASE}/trades/{seq}/recall", json={"reason": reason}, **kwargs)


def trade(city: City, contract: str, seller: Person, buyer: Person, energy_wh: int = 500) -> dict[str, Any]:
    """Let two trade, and return the buyer's trade."""
    seller.order("sell", "0.1000", energy_wh, contract=contract)
    return buyer.order("buy", "0.3000", energy_wh, contract=contract)["trades"][0]


# --- connections -----------------------------------------------------------------------------------------------------
def test_a_connection_limits_whoever_trades_for_it(city: City, olga: Person) -> None:
    dora = city.person("dora", area="LV1.2")
    account_id = dora.get("/api/v1/me").json()["account_id"]
    made = shaped(put(olga, f"connections/{account_id}", {"import_w": 4_000, "export_w": 0}), shapes.Decision)
    assert (entry(city, made.seq)["action"], entry(city, made.seq)["import_w"]) == ("connection", 4_000)
    noted = grid.decision(made.seq)
    assert (noted.kind, noted.target, noted.by) == ("connection", str(dora.account), olga.user)
    body = {"contract": city.market.contract(1), "side": "buy", "price": "0.1000", "energy_wh": 900}
    assert dora.request("POST", "/api/v1/orders", json=body).status_code == 201
    problem = refused(dora.request("POST", "/api/v1/orders", json=body), 422, "position_limit", "energy_wh")
    assert "1000 Wh" in problem["detail"] and "100 Wh" in problem["detail"]
    tied = {"connection": "ab" * 32, "import_w": 0, "export_w": 0}
    fresh = city.person("fresh", area="LV1.2").get("/api/v1/me").json()["account_id"]
    assert entry(city, shaped(put(olga, f"connections/{fresh}", tied), shapes.Decision).seq)["connection"] == "ab" * 32


@pytest.mark.parametrize(
    ("account", "json", "status", "code", "field"),
    [
        ("0" * 32, {"import_w": 1, "export_w": 1}, 404, "unknown_account", "account_id"),
        ("nobody", {"import_w": 1, "export_w": 1}, 404, "unknown_account", "account_id"),
        ("mine", {"import_w": -1, "export_w": 1}, 422, "invalid_value", "import_w"),
        ("mine", {"import_w": 1, "export_w": 2**53}, 422, "invalid_value", "export_w"),
        ("mine", {"import_w": 1}, 400, "missing_field", "export_w"),
        ("mine", {"import_w": 1, "export_w": 1, "connection": "XY"}, 422, "invalid_value", "connection"),
        ("mine", {"import_w": 1, "export_w": 1, "connection": "ab" * 33}, 422, "invalid_value", "connection"),
    ],
)  # fmt: skip
def test_bad_connections(
    city: City, olga: Person, alice: Person, account: str, json: Any, status: int, code: str, field: str
) -> None:
    before = city.state()
    name = alice.get("/api/v1/me").json()["account_id"] if account == "mine" else account
    refused(put(olga, f"connections/{name}", json), status, code, field)
    assert city.state() == before
    refused(put(alice, f"connections/{name}", json), 403, "forbidden")


# --- recalls ---------------------------------------------------------------------------------------------------------
def test_nothing_is_kept_of_words_about_a_trade_that_cannot_be(city: City) -> None:
    before = Words.objects.count()
    for seq in (2**53, 2**60, 7):  # too large to be asked for; no trade
        said = {"reason": "error", "text": "Mr Sun called"}
        response = city.sam.request("POST", f"{BASE}/trades/{seq}/recall", json=said)
        assert (response.status_code, response.json()["code"]) == (404, "unknown_trade")
    assert Words.objects.count() == before


def test_a_recalled_trade_is_as_if_it_had_not_been(city: City, alice: Person, charlie: Person) -> None:
    contract = city.market.contract(2)
    before = [person.get("/api/v1/me/balance").json()["cash"] for person in (alice, charlie)]
    made = trade(city, contract, alice, charlie)
    shaped(recall(city.sam, made["seq"]), shapes.Decision)
    assert [person.get("/api/v1/me/balance").json()["cash"] for person in (alice, charlie)] == before
    for person in (alice, charlie):
        assert contract not in [p["contract"] for p in person.get("/api/v1/me/positions").json()["results"]]
    flows = {flow["area"]: flow for flow in city.olga.get(f"{BASE}/flows", contract=contract).json()["results"]}
    assert flows["LV1.1"]["export_wh"] == 0 and flows["LV1.1"]["export_residual_wh"] == 25_000
    (public,) = shaped(city.request("GET", "/api/v1/trades", params={"contract": contract}), shapes.TradePage).results
    assert (public.seq, public.recalled) == (made["seq"], True)
    assert city.request("GET", "/api/v1/candles", params={"contract": contract}).json()["results"] == []
    order = charlie.get("/api/v1/orders", contract=contract).json()["results"][0]
    (shown,) = shaped(charlie.get(f"/api/v1/orders/{order['id']}"), shapes.OrderDetail).trades
    assert (order["status"], shown.recalled) == ("filled", True)
    statement = charlie.get("/api/v1/me/statement").json()["results"]
    assert [(line["kind"], line["amount"]) for line in statement[:2]] == [
        ("recall", made["amount"]), ("trade", "-" + made["amount"]),
    ]  # fmt: skip
    told = charlie.get("/api/v1/events", after=made["seq"]).json()["results"][0]
    assert (told["type"], told["trade"], told["side"], told["returned"]) == (
        "recall", made["seq"], "buy", made["amount"],
    )  # fmt: skip
    volume = {c["contract"]: c["volume_wh"] for c in city.request("GET", "/api/v1/contracts").json()["results"]}
    assert volume[contract] == 0


def test_only_the_market_operator_recalls(city: City, alice: Person, bob: Person, olga: Person) -> None:
    made = trade(city, city.market.contract(3), alice, bob)
    before = city.state()
    for person in (alice, bob, olga, city.rita):
        refused(recall(person, made["seq"]), 403, "forbidden")
    refused(recall(city.sam, made["seq"], key=city.sam.key_for("read")), 403, "missing_scope")
    refused(recall(city.sam, made["seq"], "free text!"), 422, "invalid_value", "reason")
    refused(recall(city.sam, made["seq"] - 1), 404, "unknown_trade", "trade")
    refused(recall(city.sam, 2**60), 404, "unknown_trade", "trade")
    refused(city.sam.request("POST", f"{BASE}/trades/{made['seq']}/recall", json={}), 400, "missing_field", "reason")
    assert city.state() == before
    headers = {"Idempotency-Key": "recall-1"}
    first = shaped(recall(city.sam, made["seq"], headers=headers), shapes.Decision)
    assert shaped(recall(city.sam, made["seq"], headers=headers), shapes.Decision) == first
    refused(recall(city.sam, made["seq"]), 409, "already_recalled", "trade")
    noted = grid.decision(first.seq)
    assert (noted.kind, noted.target, noted.reason, noted.by) == ("recall", str(made["seq"]), "error", city.sam.user)


# --- alerts ----------------------------------------------------------------------------------------------------------
def test_a_cut_below_what_is_allocated_raises_an_alert(
    city: City, alice: Person, charlie: Person, olga: Person
) -> None:
    contract = city.market.contract(4)
    trade(city, contract, alice, charlie, 2_000)
    known = [alert["id"] for alert in olga.get(f"{BASE}/alerts").json()["results"]]
    harmless = shaped(put(olga, "areas/LV1.1/capacity", {"import_w": 0, "export_w": 8_000}), shapes.Decision).seq
    seq = shaped(put(olga, "areas/LV1.1/capacity", {"import_w": 0, "export_w": 4_000}), shapes.Decision).seq
    try:
        page = shaped(olga.get(f"{BASE}/alerts"), shapes.AlertPage)
        (alert,) = [alert for alert in page.results if alert.id not in known]
        assert (alert.id, alert.kind, alert.area, alert.reason) == (seq, "capacity", "LV1.1", "operator")
        assert harmless not in [alert.id for alert in page.results]
        over = {(o.contract, o.direction): (o.flow_wh, o.capacity_wh, o.over_wh) for o in alert.contracts}
        assert over[contract, "export"] == (2_000, 1_000, 1_000)
        assert (alert.acknowledged_by, alert.acknowledged_at) == (None, None)
        flow = next(f for f in olga.get(f"{BASE}/flows", contract=contract).json()["results"] if f["area"] == "LV1.1")
        assert flow["export_residual_wh"] == -1_000
        path = f"{BASE}/alerts/{seq}/acknowledge"
        refused(city.rita.request("POST", path), 403, "forbidden")
        assert seq in [row.id for row in shaped(olga.get(f"{BASE}/alerts", state="open"), shapes.AlertPage).results]
        refused(olga.request("POST", path, json={"note": "x" * 201}), 422, "invalid_value", "note")
        refused(olga.request("POST", path, json={"said": "x"}), 400, "unknown_field", "said")
        refused(olga.get(f"{BASE}/alerts", state="shut"), 400, "invalid_value", "state")
        for text in ("Crew is on its way", "Another"):
            seen = shaped(olga.request("POST", path, json={"note": text}), shapes.Alert)
            assert seen.note == "Crew is on its way"
            assert (seen.acknowledged_by, seen.acknowledged_at) == ("olga", at_text(city.market.clock.at_ms))
        assert shaped(city.sam.request("POST", path), shapes.Alert).acknowledged_by == "olga", "the first one stays"
        for state, listed in (("open", False), ("acknowledged", True)):
            rows = shaped(olga.get(f"{BASE}/alerts", state=state), shapes.AlertPage).results
            assert (seq in [row.id for row in rows]) is listed, state
        refused(olga.request("POST", f"{BASE}/alerts/{harmless}/acknowledge"), 404, "unknown_alert", "id")
        refused(olga.request("POST", f"{BASE}/alerts/{2**63}/acknowledge"), 404, "unknown_alert", "id")
        assert list(Acknowledgement.objects.values_list("seq", flat=True)) == [seq], "what is no alert leaves no note"
    finally:
        put(olga, "areas/LV1.1/capacity", ROOMY)


def test_alerts_come_in_pages_and_not_to_everybody(city: City, olga: Person, alice: Person, charlie: Person) -> None:
    trade(city, city.market.contract(5), alice, charlie, 2_000)
    try:
        for watts in (3_000, 2_000, 1_000):
            put(olga, "areas/LV1.1/capacity", {"import_w": 0, "export_w": watts})
        first = shaped(olga.get(f"{BASE}/alerts", limit=2), shapes.AlertPage)
        second = shaped(city.rita.get(f"{BASE}/alerts", limit=2, cursor=first.next), shapes.AlertPage)
        ids = [alert.id for alert in first.results + second.results]
        assert len(ids) == len(set(ids)) and ids == sorted(ids, reverse=True) and len(ids) >= 3
    finally:
        put(olga, "areas/LV1.1/capacity", ROOMY)
    refused(alice.get(f"{BASE}/alerts"), 403, "forbidden")


def test_the_price_collar_raises_one(city: City, alice: Person, bob: Person, olga: Person) -> None:
    collar = {"collar": "0.0500", "collar_period_s": 60, "collar_halt_s": 120}
    shaped(put(olga, "params", PARAMS | collar), shapes.Decision)
    contract = city.market.contract(6)
    try:
        alice.order("sell", "0.9000", contract=contract)
        bob.order("buy", "0.9000", contract=contract)
        alert = shaped(olga.get(f"{BASE}/alerts"), shapes.AlertPage).results[0]
        until = at_text(city.market.clock.at_ms + 120_000)
        assert (alert.kind, alert.contract, alert.area, alert.until) == ("collar", contract, None, until)
    finally:
        put(olga, "params", PARAMS | {"collar": "0.0000"})
        operations.set_halt(city.exchange, scope="contract", target=contract, on=False, reason="test")


# --- halts and limits ------------------------------------------------------------------------------------------------
def test_a_halt_with_an_end_and_the_kill_switch(city: City, alice: Person, olga: Person) -> None:
    contract = city.market.contract(7)
    order = alice.order("sell", "0.9000", contract=contract)["order"]["id"]
    until = at_text(city.market.clock.at_ms + 60_000)
    halt = {"scope": "contract", "target": contract, "on": True, "reason": "drill", "until": until, "cancel": True}
    seq = shaped(put(olga, "halts", halt), shapes.Decision).seq
    assert (entry(city, seq)["until"], entry(city, seq)["cancel"]) == (until, 1)
    assert grid.decision(seq).values == {
        "scope": "contract", "on": 1, "cancel": 1, "until_ms": city.market.clock.at_ms + 60_000,
    }  # fmt: skip
    killed = alice.get(f"/api/v1/orders/{order}").json()["order"]
    assert (killed["status"], killed["reason"]) == ("cancelled", "kill")
    shaped(put(olga, "halts", {"scope": "contract", "target": contract, "on": False}), shapes.Decision)


@pytest.mark.parametrize(
    ("changes", "status", "code", "field"),
    [
        ({"until": "soon"}, 422, "invalid_value", "until"),
        ({"until": "2020-01-01T00:00:00Z"}, 422, "invalid_value", "until"),
        ({"until": 5}, 400, "invalid_type", "until"),
        ({"scope": "area", "target": "LV1.2", "until": "2027-01-01T00:00:00Z"}, 422, "invalid_value", "until"),
        ({"on": False, "cancel": True}, 422, "invalid_value", "cancel"),
        ({"cancel": 1}, 400, "invalid_type", "cancel"),
    ],
)  # fmt: skip
def test_bad_halts(city: City, olga: Person, changes: dict[str, Any], status: int, code: str, field: str) -> None:
    before = city.state()
    halt = {"scope": "contract", "target": city.market.contract(7), "on": True, "reason": "drill"} | changes
    refused(put(olga, "halts", halt), status, code, field)
    assert city.state() == before


def test_later_limits_stay_unless_they_are_named(city: City, olga: Person) -> None:
    try:
        shaped(put(olga, "params", PARAMS | {"throttle_per_min": 600, "throttle_burst": 500}), shapes.Decision)
        shaped(put(olga, "params", PARAMS | {"collar": "0.2500", "collar_period_s": 5, "collar_halt_s": 6}),
               shapes.Decision)  # fmt: skip
        found = shaped(olga.get(f"{BASE}/params"), shapes.Params)
        assert (found.throttle_per_min, found.throttle_burst, found.collar) == (600, 500, "0.2500")
        refused(put(olga, "params", PARAMS | {"collar": "x"}), 422, "invalid_price", "collar")
        refused(put(olga, "params", PARAMS | {"collar": "-0.1000"}), 422, "invalid_value", "collar")
        refused(put(olga, "params", PARAMS | {"throttle_burst": -1}), 422, "invalid_value", "throttle_burst")
        refused(put(olga, "params", PARAMS | {"throttle_burst": "9"}), 400, "invalid_type", "throttle_burst")
    finally:
        put(olga, "params", PARAMS | {"collar": "0.0000", "throttle_per_min": 0})


def test_throttled_orders_say_when_to_come_again(city: City, olga: Person) -> None:
    hasty = city.person("hasty", area="LV1.2")
    body = {"contract": city.market.contract(1), "side": "buy", "price": "0.0100", "energy_wh": 1}
    try:
        put(olga, "params", PARAMS | {"throttle_per_min": 6, "throttle_burst": 2, "throttle_credit": 0})
        for _ in range(2):
            assert hasty.request("POST", "/api/v1/orders", json=body).status_code == 201
        response = hasty.request("POST", "/api/v1/orders", json=body)
        problem = refused(response, 429, "throttled", response.json()["field"])
        assert response.headers["retry-after"] == "10" and "10 s" in problem["detail"]
    finally:
        put(olga, "params", PARAMS | {"throttle_per_min": 0})


def test_an_alarm_about_the_ledger_stands_among_the_alerts(city: City, olga: Person, alice: Person) -> None:
    alice.order("sell", "0.9000", contract=city.market.contract(4))
    deadline = time.monotonic() + 10
    while not (size := ledger_queries.sealed_size()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    detail = {"reason": "refused", "size": size, "witnesses": {"regulator": "at 12 entries: another root"}}
    seq = cosigning.raise_alarm("fork", size, city.market.clock.at_ms, detail)
    again = cosigning.raise_alarm("quorum", size, city.market.clock.at_ms, {"reason": "lag", "witnesses": {}})
    assert seq is not None and again != seq
    found = {alert.id: alert for alert in shaped(olga.get(f"{BASE}/alerts", limit=500), shapes.AlertPage).results}
    assert (found[seq].kind, found[seq].reason, found[seq].witnesses) == ("fork", "refused", ["regulator"])
    assert (found[seq].area, found[seq].contract, found[seq].contracts) == (None, None, [])
    assert list(found) == sorted(found, reverse=True)
    if again is not None:  # a log with one seal has no place for a second one
        assert found[again].kind == "quorum"
    seen = shaped(olga.request("POST", f"{BASE}/alerts/{seq}/acknowledge"), shapes.Alert)
    assert seen.acknowledged_by == "olga"
