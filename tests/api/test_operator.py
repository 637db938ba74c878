"""`/api/v1/operator/…`: Olga decides, everybody else may not."""

from __future__ import annotations

from typing import Any

import pytest

from market.api import cursors, shapes
from market.grid import queries as grid
from tests.api.conftest import CSRF, City, Person, refused, shaped

BASE = "/api/v1/operator"
PARAMS = {
    "max_price": "1.0000", "tick": "0.0001", "max_order_wh": 100_000, "max_open_orders": 1_000, "horizon_min": 120,
    "lead_min": 0, "netting_permille": 1_000,
}  # fmt: skip
WRITES: list[tuple[str, dict[str, Any]]] = [
    ("areas/LV1.2/capacity", {"import_w": 50_000, "export_w": 60_000, "reason": "works"}),
    ("areas/LV1.2/fee", {"fee": "0.0123"}),
    ("tariff", {"topup_price": "0.4100", "spill_price": "0.0700"}),
    ("halts", {"scope": "area", "target": "LV1.2", "on": True, "reason": "works"}),
    ("params", PARAMS | {"max_open_orders": 900}),
]


def put(person: Person, path: str, json: Any, **kwargs: Any) -> Any:
    return person.request("PUT", f"{BASE}/{path}", json=json, **kwargs)


@pytest.mark.parametrize(("path", "json"), WRITES, ids=[path for path, _ in WRITES])
def test_others_may_not(city: City, path: str, json: dict[str, Any]) -> None:
    before = city.state()
    for person in (city.alice, city.rita, city.nora):
        refused(put(person, path, json), 403, "forbidden")
    refused(city.request("PUT", f"{BASE}/{path}", json=json), 401, "not_authenticated")
    refused(put(city.olga, path, json, key=city.olga.key_for("read", "ledger:read")), 403, "missing_scope")
    refused(city.request("PUT", f"{BASE}/{path}", json=json, cookies=city.olga.session()), 403, "csrf_failed")
    assert city.state() == before


def test_a_session_of_the_operator(city: City, olga: Person) -> None:
    headers = {"X-CSRFToken": CSRF}
    json = {"import_w": 99_000, "export_w": 99_000}
    response = city.request("PUT", f"{BASE}/areas/LV2.1/capacity", json=json, cookies=olga.session(), headers=headers)
    shaped(response, shapes.Decision)


def entry(city: City, seq: int) -> dict[str, Any]:
    return city.rita.get(f"/api/v1/ledger/entries/{seq}").json()["entry"]


def test_who_decided_is_kept_beside_the_ledger(city: City, olga: Person) -> None:
    headers = {"Idempotency-Key": "noted"}
    for _ in range(2):
        seq = shaped(put(olga, *WRITES[0], headers=headers), shapes.Decision).seq
    noted = grid.decision(seq)
    assert noted is not None
    assert (noted.by, noted.kind, noted.target, noted.reason) == (olga.user, "capacity", "LV1.2", "works")
    assert noted.values == {"import_w": 50_000, "export_w": 60_000}


def test_every_decision_says_why_and_commits_to_its_words(city: City, olga: Person) -> None:
    words = {"text": "Netzentgelt 2027"}
    for path, json in WRITES:
        made = entry(city, shaped(put(olga, path, json | words), shapes.Decision).seq)
        assert (made["reason"], len(made["commitment"])) == (json.get("reason", "operator"), 64), path
        assert "Netzentgelt" not in str(made)
    shaped(put(olga, "halts", {"scope": "area", "target": "LV1.2", "on": False, "reason": "resumed"}), shapes.Decision)


def test_the_same_key_commits_once_and_other_words_are_a_conflict(city: City, olga: Person) -> None:
    headers, fee = {"Idempotency-Key": "words"}, {"fee": "0.0124", "reason": "tariff", "text": "Once"}
    first, again = (shaped(put(olga, "areas/LV1.2/fee", fee, headers=headers), shapes.Decision).seq for _ in range(2))
    assert first == again
    refused(put(olga, "areas/LV1.2/fee", fee | {"text": "Twice"}, headers=headers), 409, "idempotency_conflict", "text")
    noted = grid.decision(first)
    assert noted is not None and noted.said is not None
    assert (noted.said.text, noted.said.state) == ("Once", "matches")


def test_capacity_fee_and_tariff_are_entries(city: City, olga: Person) -> None:
    capacity = shaped(put(olga, *WRITES[0]), shapes.Decision)
    made = entry(city, capacity.seq)
    assert (made["type"], made["area"], made["import_w"], made["export_w"]) == ("capacity", "LV1.2", 50_000, 60_000)
    fee = shaped(put(olga, *WRITES[1]), shapes.Decision)
    assert entry(city, fee.seq)["fee_e4"] == 123
    tariff = shaped(put(olga, *WRITES[2]), shapes.Decision)
    assert entry(city, tariff.seq)["topup_e4"] == 4_100
    street = next(a for a in city.request("GET", "/api/v1/areas").json()["results"] if a["area"] == "LV1.2")
    assert (street["import_w"], street["fee"]) == (50_000, "0.0123")


@pytest.mark.parametrize(
    ("scope", "code", "field"),
    [("market", "market_halted", ""), ("contract", "contract_halted", "contract"), ("area", "area_halted", "area"),
     ("account", "account_halted", "account")],
)  # fmt: skip
def test_a_halt_stops_trading_until_it_ends(
    city: City, alice: Person, olga: Person, scope: str, code: str, field: str
) -> None:
    contract = city.market.contract(2)
    targets = {"market": "", "contract": contract, "area": "LV1.1", "account": str(alice.account)}
    halt = {"scope": scope, "target": targets[scope], "on": True, "reason": "drill"}
    shaped(put(olga, "halts", halt), shapes.Decision)
    try:
        body = {"contract": contract, "side": "buy", "price": "0.0100", "energy_wh": 100}
        refused(alice.request("POST", "/api/v1/orders", json=body), 409, code, field)
    finally:
        shaped(put(olga, "halts", halt | {"on": False}), shapes.Decision)
    alice.order("buy", "0.0100", contract=contract)


def test_limits(city: City, olga: Person) -> None:
    seq = shaped(put(olga, "params", PARAMS | {"max_open_orders": 950}), shapes.Decision).seq
    assert entry(city, seq)["max_open_orders"] == 950
    assert shaped(olga.get(f"{BASE}/params"), shapes.Params).max_open_orders == 950
    refused(city.alice.get(f"{BASE}/params"), 403, "forbidden")


@pytest.mark.parametrize(
    ("path", "json", "status", "code", "field"),
    [
        ("areas/NIX/capacity", {"import_w": 1, "export_w": 1}, 422, "unknown_area", "area"),
        ("areas/LV1.2/capacity", {"import_w": -1, "export_w": 1}, 422, "invalid_value", "import_w"),
        ("areas/LV1.2/capacity", {"import_w": 1}, 400, "missing_field", "export_w"),
        ("areas/LV1.2/capacity", {"import_w": 10**30, "export_w": 1}, 422, "invalid_value", "import_w"),
        ("areas/LV1.2/capacity", {"import_w": 1, "export_w": 1, "reason": "free text!"}, 422, "invalid_value",
         "reason"),
        ("areas/LV1.2/capacity", {"import_w": 1, "export_w": 1, "reason": ""}, 422, "invalid_value", "reason"),
        ("areas/LV1.2/capacity", {"import_w": 1, "export_w": 1, "reason": "whim"}, 422, "invalid_value", "reason"),
        ("areas/LV1.2/capacity", {"import_w": 1, "export_w": 1, "text": "x" * 201}, 422, "invalid_value", "text"),
        ("areas/LV1.2/capacity", {"import_w": 1, "export_w": 1, "text": "a\nb"}, 422, "invalid_value", "text"),
        ("areas/LV1.2/fee", {"fee": "0.0100", "reason": "drill"}, 422, "invalid_value", "reason"),
        ("tariff", {"topup_price": "0.3000", "spill_price": "0.2000", "reason": "fault"}, 422, "invalid_value", "reason"),
        ("params", PARAMS | {"reason": "whim"}, 422, "invalid_value", "reason"),
        ("areas/LV1.2/fee", {"fee": 1}, 400, "invalid_type", "fee"),
        ("areas/LV1.2/fee", {"fee": "much"}, 422, "invalid_price", "fee"),
        ("areas/LV1.2/fee", {"fee": "-0.0100"}, 422, "invalid_value", "fee"),
        ("tariff", {"topup_price": "0.1000", "spill_price": "0.2000"}, 422, "invalid_value", "spill_price"),
        ("tariff", {"topup_price": "x", "spill_price": "0.2000"}, 422, "invalid_price", "topup_price"),
        ("halts", {"scope": "planet", "on": True}, 422, "invalid_value", "scope"),
        ("halts", {"scope": "area", "on": 1, "target": "LV1.2"}, 400, "invalid_type", "on"),
        ("halts", {"scope": "area", "on": True, "target": "NIX"}, 422, "unknown_area", "target"),
        ("halts", {"scope": "account", "on": True, "target": "-1"}, 422, "unknown_account", "target"),
        ("halts", {"scope": "account", "on": True, "target": "9" * 60}, 422, "unknown_account", "target"),
        ("halts", {"scope": "account", "on": True, "target": "٣"}, 422, "unknown_account", "target"),
        ("halts", {"scope": "contract", "on": True, "target": "x"}, 422, "unknown_contract", "target"),
        ("halts", {"scope": "contract", "on": True, "target": "\0"}, 422, "invalid_value", "target"),
        ("params", PARAMS | {"tick": "0.0000"}, 422, "invalid_value", "tick"),
        ("params", PARAMS | {"max_price": "-1.0000"}, 422, "invalid_value", "max_price"),
        ("params", PARAMS | {"netting_permille": 1_001}, 422, "invalid_value", "netting_permille"),
        ("params", PARAMS | {"horizon_min": 2**53}, 422, "invalid_value", "horizon_min"),
        ("params", {}, 400, "missing_field", "max_price"),
        ("params", [], 400, "invalid_type", ""),
    ],
)  # fmt: skip
def test_bad_decisions_change_nothing(
    city: City, olga: Person, path: str, json: Any, status: int, code: str, field: str
) -> None:
    before = city.state()
    refused(put(olga, path, json), status, code, field)
    assert city.state() == before


def test_a_repeated_decision_is_one_entry(city: City, olga: Person) -> None:
    headers = {"Idempotency-Key": "decision-1"}
    json = {"import_w": 77_000, "export_w": 77_000}
    first = shaped(put(olga, "areas/LV1.2/capacity", json, headers=headers), shapes.Decision)
    assert shaped(put(olga, "areas/LV1.2/capacity", json, headers=headers), shapes.Decision) == first
    other = put(olga, "areas/LV1.2/capacity", json | {"import_w": 78_000}, headers=headers)
    refused(other, 409, "idempotency_conflict", "import_w")
    refused(put(olga, "tariff", {"topup_price": "0.4", "spill_price": "0.1"}, headers={"Idempotency-Key": "a b"}),
            400, "invalid_idempotency_key", "Idempotency-Key")  # fmt: skip


def test_flows_against_capacities(city: City, alice: Person, charlie: Person, olga: Person) -> None:
    contract = city.market.contract(4)
    alice.order("sell", "0.2000", 2_000, contract=contract)
    charlie.order("buy", "0.3000", 2_000, contract=contract)
    page = shaped(olga.get(f"{BASE}/flows", contract=contract), shapes.FlowPage)
    flows = {flow.area: flow for flow in page.results}
    assert flows["LV1.1"].export_wh == flows["LV2.1"].import_wh == flows["MV1"].export_wh == 2_000
    assert flows["LV1.1"].export_capacity_wh == 25_000
    assert flows["LV1.2"].export_wh == flows["LV1.2"].import_wh == 0
    refused(olga.get(f"{BASE}/flows"), 400, "missing_field", "contract")
    refused(olga.get(f"{BASE}/flows", contract="2031-01-01T00:00Z"), 404, "unknown_contract", "contract")
    refused(alice.get(f"{BASE}/flows", contract=contract), 403, "forbidden")
    assert city.rita.get(f"{BASE}/flows", contract=contract).status_code == 200


def test_the_settlement_board(city: City, olga: Person) -> None:
    shaped(olga.get(f"{BASE}/settlement"), shapes.SettlementPage)
    assert shaped(olga.get(f"{BASE}/settlement", stage="final"), shapes.SettlementPage).results == []
    refused(olga.get(f"{BASE}/settlement", stage="done"), 400, "invalid_value", "stage")
    refused(olga.get(f"{BASE}/settlement", cursor="x"), 400, "invalid_cursor", "cursor")
    refused(olga.get(f"{BASE}/settlement", cursor=cursors.encode("x")), 400, "invalid_cursor", "cursor")
    refused(olga.get(f"{BASE}/settlement", limit=0), 400, "out_of_range", "limit")
    refused(city.alice.get(f"{BASE}/settlement"), 403, "forbidden")
