"""Devices on their pages: a household registers and revokes them, the grid operator confirms what an inverter may give."""

from __future__ import annotations

import re

from market.households import queries
from market.households.models import Device
from tests.integration.pages.conftest import Town, Visitor

PAGE = "/account/devices"
INVERTER = {"kind": "inverter", "name": "roof", "rating_w": "8.5", "register_digits": "0"}


def register(visitor: Visitor, once: str, **fields: str) -> str:
    """Register a device and return its key."""
    response = visitor.post(f"{PAGE}/register", page=PAGE, once=once, **{**INVERTER, **fields})
    assert response.status_code == 200, response.content.decode()
    found = re.search(r'<code id="secret" class="token">(\S+)</code>', response.content.decode())
    assert found
    return found[1]


def test_a_device_is_registered_shown_once_and_revoked(town: Town) -> None:
    paula = town.person("paula", area="LV1.1").prove()
    assert "/account/devices" in paula.html("/account")
    token = register(paula, "a")
    identity = queries.identify_key(token)
    assert identity is not None and identity.account_index == paula.account
    assert paula.post(f"{PAGE}/register", page=PAGE, once="a", **INVERTER).status_code == 302
    [device] = Device.objects.filter(user=paula.user)
    assert device.rating_w == 8_500
    html = paula.html(PAGE)
    assert token not in html and "waits for the grid operator" in html
    town.bob.post(f"{PAGE}/{device.device_id}/revoke", page=PAGE)
    assert queries.identify_key(token) is not None
    again = paula.post(f"{PAGE}/{device.device_id}/key", page=PAGE).content.decode()
    assert 'id="secret"' in again
    assert queries.identify_key(token) is None
    paula.post(f"{PAGE}/{device.device_id}/revoke", page=PAGE)
    assert "revoked" in paula.html(PAGE)


def test_a_bad_form_names_its_field(town: Town) -> None:
    response = town.alice.prove().post(f"{PAGE}/register", page=PAGE, once="b", **{**INVERTER, "rating_w": "0"})
    assert response.status_code == 422
    assert 'id="id_rating_w_error"' in response.content.decode()
    assert not Device.objects.filter(user=town.alice.user).exists()


def test_the_operator_confirms_and_turns_down(town: Town) -> None:
    quinn = town.person("quinn", area="LV1.1").prove()
    register(quinn, "c")
    register(quinn, "d", name="garage")
    html = town.olga.html("/operator/devices")
    assert html.count("8.5") >= 2 and str(quinn.account) in html
    first, second = Device.objects.filter(user=quinn.user).order_by("pk")
    path = "/operator/devices"
    assert town.olga.post(f"{path}/{first.device_id}", page=path, decision="confirm").status_code == 302
    assert "new export limit" in town.olga.html(path)
    assert town.exchange.read(lambda engine: engine.accounts[quinn.account].export_w) == 8_500
    town.olga.post(f"{path}/{second.device_id}", page=path, decision="decline")
    assert "Nobody waits." in town.olga.html(path)
    assert town.exchange.read(lambda engine: engine.accounts[quinn.account].export_w) == 8_500
    assert "turned down" in quinn.html(PAGE)
    assert quinn.get(path).status_code == 403
    assert town.olga.get(PAGE).status_code == 403


def test_a_substation_meter_is_registered_for_an_area(town: Town) -> None:
    page = "/operator/devices"
    town.olga.prove()
    fields = {"area": "MV1", "name": "transformer", "rating_w": "400"}
    response = town.olga.post("/operator/substations", page=page, once="s", **fields)
    found = re.search(r'<code id="secret" class="token">(\S+)</code>', response.content.decode())
    assert found
    identity = queries.identify_key(found[1])
    assert identity is not None and identity.scopes == {"readings:write"}
    assert town.olga.post("/operator/substations", page=page, once="s", **fields).status_code == 302
    [device] = Device.objects.filter(area="MV1")
    assert (device.kind, device.rating_w) == ("substation", 400_000)
    assert found[1] not in town.olga.html(page) and "MV1" in town.olga.html(page)
    wrong = town.olga.post("/operator/substations", page=page, once="t", **fields | {"area": "LV9"})
    assert wrong.status_code == 422
    assert town.alice.post("/operator/substations", page=PAGE, once="u", **fields).status_code == 403
    assert town.alice.post(f"/operator/substations/{device.device_id}/revoke", page=PAGE).status_code == 403
    assert queries.identify_key(found[1]) is not None
    town.olga.post(f"/operator/substations/{device.device_id}/revoke", page=page)
    assert queries.identify_key(found[1]) is None


def test_in_chinese(town: Town) -> None:
    html = town.alice.client.get(PAGE, headers={"accept-language": "zh-hans"}).content.decode()
    assert "登记设备" in html
    assert (
        "等待确认的逆变器"
        in town.olga.client.get("/operator/devices", headers={"accept-language": "zh-hans"}).content.decode()
    )


def test_while_the_market_is_closed_nothing_is_decided(closed: Town) -> None:
    ralf = closed.person("ralf")
    assert "no open account" in ralf.html(PAGE)
