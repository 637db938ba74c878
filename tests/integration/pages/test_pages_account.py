"""What people do with their own affairs."""

from __future__ import annotations

import re

from market.households import queries
from market.households.models import User
from tests.integration.pages.conftest import Town, Visitor

KEY = {"name": "my script", "scopes": ["read"]}


def token_in(html: str) -> str:
    """Return the secret a page shows."""
    found = re.search(r'<code id="secret" class="token">(\S+)</code>', html)
    assert found, html
    return found[1]


def test_a_member_sees_the_wallet(town: Town) -> None:
    town.market.buys(town.alice.account, "0.1000", 5_000)
    html = town.alice.html("/account")
    held = re.search(r"Set aside for open orders</dt><dd>€(\S+)</dd>", html)
    assert held and held[1] == "0.50"
    assert f"Account {town.alice.account} in LV1.1" in html
    assert "LV2.1" not in html


def test_profile_and_language_are_kept(town: Town) -> None:
    visitor = town.person("paul")
    response = visitor.post(
        "/account/profile",
        page="/account",
        first_name="Paul",
        language="zh-hans",
        time_zone="Asia/Shanghai",
        colours="red-up",
    )
    assert response["Location"] == "/account"
    user = User.objects.get(username="paul")
    assert (user.first_name, user.language, user.time_zone, user.colours) == (
        "Paul", "zh-hans", "Asia/Shanghai", "red-up",
    )  # fmt: skip
    assert '<html lang="zh-hans" data-colours="red-up">' in visitor.html("/account")
    # A new device finds the language again after signing in.
    device = Visitor(town, None)
    device.post("/sign-in", username="paul", password="sunny roofs at noon")
    page = device.html("/account")
    assert 'lang="zh-hans"' in page and 'data-colours="red-up"' in page
    assert '"time_zone": "Asia/Shanghai", "market_time_zone": "Europe/Berlin"' in page


def test_a_bad_profile_is_not_kept(town: Town) -> None:
    wrong = {"time_zone": "Europe/Atlantis", "colours": "blue-up", "language": "xx"}
    response = town.bob.post("/account/profile", page="/account", first_name="Robert", **wrong)
    assert response.status_code == 422
    assert response.content.decode().count("Select a valid choice.") == 3
    assert User.objects.get(username="bob").first_name == ""


def test_a_key_is_shown_once_works_and_is_revoked(town: Town) -> None:
    visitor = town.person("keyes", area="LV1.1").prove()
    response = visitor.post("/account/keys", page="/account", once="first", **KEY)
    assert response["Cache-Control"].startswith("max-age=0, no-cache, no-store")
    token = token_in(response.content.decode())
    identity = queries.identify_key(token)
    assert identity is not None
    assert (identity.account_index, identity.scopes) == (visitor.account, frozenset({"read"}))
    page = visitor.html("/account")
    assert token not in page
    assert token[:10] in page
    [key] = queries.keys_of(visitor.user)
    assert visitor.post(f"/account/keys/{key.pk}/revoke", page="/account").status_code == 302
    assert queries.identify_key(token) is None
    assert "revoked" in visitor.html("/account")


def test_sending_the_key_form_twice_makes_one_key(town: Town) -> None:
    visitor = town.person("twice").prove()
    visitor.post("/account/keys", page="/account", once="same", **KEY)
    assert visitor.post("/account/keys", page="/account", once="same", **KEY).status_code == 302
    assert len(queries.keys_of(visitor.user)) == 1


def test_nobody_takes_more_than_the_role_allows(town: Town) -> None:
    town.alice.prove()
    for scopes in (["ledger:read"], ["operate"], [], ["everything"]):
        response = town.alice.post("/account/keys", page="/account", once=f"x{scopes}", name="all", scopes=scopes)
        assert response.status_code == 422, scopes
        assert 'id="id_scopes_error"' in response.content.decode()
    assert not queries.keys_of(town.alice.user)


def test_nobody_revokes_somebody_elses_key(town: Town) -> None:
    owner = town.person("owner").prove()
    owner.post("/account/keys", page="/account", once="o", **KEY)
    [key] = queries.keys_of(owner.user)
    town.charlie.post(f"/account/keys/{key.pk}/revoke", page="/account")
    key.refresh_from_db()
    assert key.revoked_at is None


def test_the_account_page_survives_a_closed_market(closed: Town) -> None:
    html = closed.alice.html("/account")
    assert "The market is not running at the moment." in html
    assert "Free to use" in html
