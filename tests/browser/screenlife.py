"""What happens in the demo before ``make screens`` looks: a page is shown in use, not as it is on the first morning.

No test. Each step is one that a person takes with the pages' own forms; a step that cannot be taken is an error with its name.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from playwright.sync_api import Browser, Error, Page

from tests.browser.conftest import DESKTOP, Market, Visitor

FAST: Final = 60  # times life while the market lives towards the pictures
UNTIL_H: Final = 14  # market time at which it is looked at: half of the day is in the charts, and the sun still shines
SETTLED_S: Final = 120.0  # what was sold first is delivered and settled by then
LIVED_S: Final = 300.0
STEP_MS: Final = 20_000
EDGE: Final = "LV1.201"  # the sunniest street: what it gives comes near to what its transformer carries
SECOND_EDGE: Final = "LV1.101"
FEEDER: Final = "LV4.101"


class Life:
    """The people of the pictures, each in a browser of their own."""

    def __init__(self, browser: Browser, market: Market):
        self._browser = browser
        self._market = market
        self.household = self._person("household")
        self.operator = self._person("operator")
        self.regulator = self._person("regulator")
        self.staff = self._person("staff")

    def _person(self, role: str) -> Visitor:
        context = self._browser.new_context(viewport={"width": DESKTOP[0], "height": DESKTOP[1]}, locale="en-GB")
        context.set_default_timeout(STEP_MS)
        visitor = Visitor(context, self._market.url)
        if role:
            visitor.sign_in(role)
        return visitor

    def close(self) -> None:
        """Close all browsers."""
        for visitor in (self.household, self.operator, self.regulator, self.staff):
            visitor.context.close()

    # --- a household ---

    def sells(self) -> None:
        """Press the button of the home page, and see the orders placed."""
        page = self.household.goto("/home")
        page.locator("#sell:enabled").click()
        page.locator("#sell-receipt:visible").wait_for()

    def orders(self) -> None:
        """Buy a little, and leave orders that wait: bids below the market and an offer above it."""
        self.household.goto("/trade")
        coming = self.household.send("GET", "/api/v1/contracts?state=open&limit=40")["results"]
        names = [one["contract"] for one in coming]
        for name, side, price, energy_wh in (
            (names[2], "buy", "0.2900", 150),
            (names[3], "buy", "0.0912", 400),
            (names[4], "sell", "0.2450", 600),
            (names[5], "buy", "0.0880", 350),
            (names[24], "buy", "0.1420", 500),
        ):
            self.household.order(name, side, price, energy_wh)

    def orders_next(self) -> None:
        """Leave orders in the interval that is traded next: those the ladder marks as one's own."""
        self.household.goto("/trade")
        name = self.household.send("GET", "/api/v1/contracts?state=open&limit=3")["results"][1]["contract"]
        self.household.order(name, "buy", "0.2900", 90)  # trades at once, and makes a position
        self.household.order(name, "buy", "0.0915", 300)
        self.household.order(name, "sell", "0.2610", 200)

    def moves_money(self) -> None:
        """Pay in by transfer and out again."""
        page = self.household.goto("/money")
        put_in = page.locator('form[action$="/money/deposits"]')
        put_in.locator('input[name$="amount"]').fill("25")
        put_in.locator("button").click()
        page.locator(".transfer").wait_for()
        for amount in ("5", "3"):
            page = self.household.goto("/money")
            take_out = page.locator('form[action$="/money/withdrawals"]')
            take_out.locator('input[name$="amount"]').fill(amount)
            take_out.locator('input[name$="iban"]').fill("DE02120300000000202051")
            take_out.locator('input[name$="holder"]').fill("Mia Müller")
            take_out.locator("button").click()
            page.locator(".notice.success").wait_for()
            if amount == "5":
                self.pays_out()

    def registers_devices(self) -> None:
        """Register a meter and an inverter."""
        for kind, name, rating in (("meter", "cellar", "30"), ("inverter", "roof", "8")):
            page = self.household.goto("/account/devices")
            page.locator("#id_kind").select_option(kind)
            page.locator("#id_name").fill(name)
            page.locator("#id_rating_w").fill(rating)
            page.locator("form[action$=register] button").click()
            page.locator("#secret").wait_for()

    def contests(self) -> None:
        """Contest a reading."""
        page = self.household.goto("/disputes")
        form = page.locator('form[action$="/disputes"]')
        form.locator('[name$="import_wh"]').fill("0.123")
        form.locator('[name$="text"]').fill("The display in the cellar says 0.123.")
        form.locator("button").click()
        page.locator(".notice.success").wait_for()

    # --- the market operator ---

    def asks_for_an_account(self) -> None:
        """Let a stranger ask for an account."""
        stranger = self._person("")
        page = stranger.goto("/sign-up")
        page.get_by_label("Name to sign in with").fill("rosa")
        page.get_by_label("E-mail").fill("rosa@sunledger.example")
        page.get_by_label("Password").fill("a kettle and a lamp")
        page.get_by_label("Address of the home").fill("7 Sun Street")
        page.get_by_label("Meter number").fill("1ESY1162-7")
        page.get_by_label("Grid area").select_option(EDGE)
        page.locator("main form button").last.click()
        page.wait_for_load_state()
        stranger.context.close()

    def pays_out(self) -> None:
        """Confirm a withdrawal and hand it to the bank."""
        page = self.staff.goto("/staff/money")
        page.locator('section[aria-labelledby="withdrawals"] form.case button').first.click()
        page.locator(".notice.success").wait_for()
        page.locator('form[action$="/payouts"] button').click()
        page.locator(".notice.success").wait_for()

    # --- the grid operator ---

    def limits(self, area: str, kw: str, reason: str) -> None:
        """Set the capacity of an edge after reading what it would do."""
        page = self.operator.goto(f"/operator/areas/{area}")
        page.locator("#id_capacity-import_kw").fill(kw)
        page.locator("#id_capacity-export_kw").fill(kw)
        page.locator("#id_capacity-reason").select_option(reason)
        page.locator('form[action$="/capacity"] button.main').click()
        page.wait_for_load_state()
        page.locator('main form[method="post"] button.main').click()
        page.locator(".notice.success").wait_for()

    def decides(self) -> None:
        """Set a capacity; stop trading in a street and let it go on."""
        self.limits(FEEDER, "320", "maintenance")
        self.stops_and_goes_on()

    def cuts_and_restores(self) -> None:
        """Cut an edge below what is allocated, which raises an alert, and let it carry more again."""
        self.limits(EDGE, "60", "fault")
        self.limits(EDGE, "110", "restored")

    def cuts_another(self) -> None:
        """Cut another edge, and leave its alert for somebody to see."""
        self.limits(SECOND_EDGE, "24", "overload")

    def stops_and_goes_on(self) -> None:
        """Stop trading in a street and let it go on."""
        page = self.operator.goto(f"/operator/areas/{FEEDER}")
        page.locator('button[name="decision"][value="stop"]').click()
        page.wait_for_load_state()
        sure = page.locator('main form[method="post"] button.danger, main form[method="post"] button.main')
        if not page.locator('button[name="decision"][value="resume"]').count():
            sure.first.click()
            page.wait_for_load_state()
        page = self.operator.goto(f"/operator/areas/{FEEDER}")
        page.locator('button[name="decision"][value="resume"]').click()
        page.locator(".notice.success").wait_for()

    def sees_the_alert(self) -> None:
        """Note an alert as seen."""
        page = self.operator.goto("/operator/alerts")
        form = page.locator(".alert form").last
        form.locator('input[name="note"]').fill("The crew is on its way.")
        form.locator("button").click()
        page.wait_for_load_state()

    # --- the regulator ---

    def searches(self) -> None:
        """Keep a search and take along what it finds, as two kinds of file."""
        where = "/regulator/find?kind=trades&wh_from=500"
        page = self.regulator.goto(where)
        views = page.locator('form[action$="/views"]').last
        views.locator('input[name="name"]').fill("Half a kWh or more")
        views.locator("button").click()
        page.wait_for_load_state()
        for kind in ("csv", "jsonl"):
            page = self.regulator.goto(where)
            page.locator(f'form[action$="/exports"] button[value="{kind}"]').click()
            page.wait_for_load_state()

    # --- time ---

    def _until(self, done: Callable[[Page], bool], most_s: float) -> None:
        page = self.household.goto("/home")
        deadline = time.monotonic() + most_s
        while not done(page):
            assert time.monotonic() < deadline, "the demo did not get so far"
            page.wait_for_timeout(1_000)

    def is_paid(self) -> None:
        """Wait until something that was sold is paid."""
        self._until(lambda page: page.locator(".arrived").count() > 0, SETTLED_S)

    def waits_for_the_afternoon(self) -> None:
        """Wait until it is time for the pictures."""
        clock = "#clock b"
        self._until(lambda page: int(page.locator(clock).inner_text().partition(":")[0]) >= UNTIL_H, LIVED_S)


def live(browser: Browser, market: Market) -> list[str]:
    """Let people use a fresh demo for half a market day: trades, payments, decisions, an alert, searches.

    Returns what could not be done; the pictures are wanted all the same.
    """
    life = Life(browser, market)
    failed = []
    steps: tuple[Callable[[], None], ...] = (
        life.sells,
        life.orders,
        life.registers_devices,
        life.is_paid,
        life.sells,
        life.moves_money,
        life.contests,
        life.asks_for_an_account,
        life.decides,
        life.waits_for_the_afternoon,
        life.cuts_and_restores,
        life.sees_the_alert,
        life.cuts_another,
        life.searches,
        life.sells,
        life.orders_next,
    )
    for step in steps:
        try:
            step()
        except (Error, AssertionError) as error:
            failed.append(f"{step.__name__}: {str(error).splitlines()[0]}")
    life.close()
    return failed
