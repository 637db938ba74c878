"""Every page in every look: no accessibility violation, no sideways scrolling, no error, in both languages.

What a page shows only after somebody did something is checked where that is tested.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.urls import resolve

from market.pages.urls import urlpatterns
from tests.browser.barriers import LOOKS, check
from tests.browser.conftest import Visitor

STRANGER = ("/", "/market", "/sign-in", "/sign-up", "/help", "/ledger/check", "/password/reset", "/password/reset/sent")
HOUSEHOLD = (
    "/home", "/trade", "/autopilot", "/history", "/history?period=month", "/statement", "/statement/movements", "/money",
    "/disputes", "/notifications", "/account", "/account/security", "/account/consents",
    "/account/devices", "/account/readings", "/account/erasure",
    "/consent?name=Energy+advice&scopes=statement:read&until=2030-01-01",
)  # fmt: skip
OPERATOR = (
    "/operator", "/operator/ahead", "/operator/alerts", "/operator/health", "/operator/halts", "/operator/balance",
    "/operator/devices", "/operator/disputes", "/operator/settlement",
)  # fmt: skip
STAFF = ("/staff", "/staff/rules", "/staff/money", "/staff/halts")
REGULATOR = (
    "/regulator", "/regulator/blocks/2", "/regulator/find", "/regulator/exports",
    "/regulator/accesses", "/regulator/book", "/regulator/charts", "/regulator/checking", "/regulator/refusals",
)  # fmt: skip
PAGES = {"": STRANGER, "household": HOUSEHOLD, "operator": OPERATOR, "staff": STAFF, "regulator": REGULATOR}
# What answers to GET without being a page of its own: fragments that pages ask for, files, and steps that exist only on the
# way through a form; the latter are checked in the tests of that way.
NO_PAGE = {"figures", "home-now", "trade-positions", "operator-map", "notifications-latest", "ledger-search"}
FILES = {"favicon", "service-worker", "operator-settlement-file", "export", "mfa_download_recovery_codes"}
ON_A_WAY = {
    "account_reauthenticate", "mfa_reauthenticate", "mfa_reauthenticate_webauthn", "mfa_activate_totp",
    "mfa_deactivate_totp", "mfa_view_recovery_codes", "mfa_generate_recovery_codes", "mfa_add_webauthn",
    "mfa_authenticate", "mfa_login_webauthn", "account_reset_password_from_key_done",
    "change-password",  # of who has one: the demo lets everybody in without
}  # fmt: skip
ONLY_POST = {
    "sign-out", "demo-sign-in", "read-notifications", "choose-notifications", "save-profile", "make-key", "end-sessions",
    "change-email", "send-email-link", "register-device", "register-substation", "take-readings", "renew-account",
    "fetch-left", "propose-agreement", "set-language", "home-guide", "autopilot-limits", "home-automatic", "put-in",
    "take-out", "top-up", "choose-summary", "set-params", "set-tariff", "publish-rulebook", "upload-statement",
    "make-payouts", "resume", "operator-resume", "regulator-views",
}  # fmt: skip
pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("size", "language", "scheme"), LOOKS)
@pytest.mark.parametrize("role", PAGES)
def test_no_page_shuts_anybody_out(
    visit: Callable[..., Visitor], role: str, size: tuple[int, int], language: str, scheme: str
) -> None:
    visitor = visit(role, size=size, language=language, scheme=scheme)
    for path in PAGES[role]:
        check(visitor, path)
    check(visitor, "/nowhere", expected_errors=1)
    if role not in ("", "staff"):
        check(visitor, "/staff", expected_errors=1)  # which is not theirs


def test_no_page_is_forgotten() -> None:
    visited = {resolve(path.partition("?")[0]).url_name for paths in PAGES.values() for path in paths}
    names = {pattern.name: str(pattern.pattern) for pattern in urlpatterns}
    without_parameters = {name for name, route in names.items() if "<" not in route}
    # Aliases lead to the same page.
    aliases = {name for name, route in names.items() if any(names.get(known) == route for known in visited)}
    assert without_parameters - visited - aliases == NO_PAGE | FILES | ON_A_WAY | ONLY_POST
