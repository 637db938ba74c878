"""The demo's people: one for each role, who sign in with one click and have no password.

Only a demo market calls this; the page that signs them in refuses outside ``settings.DEMO``.
"""

from __future__ import annotations

from market.households import operations, queries
from market.households.models import Account, Role, User

PEOPLE: dict[Role, str] = {
    Role.HOUSEHOLD: "mia",
    Role.OPERATOR: "olga",
    Role.REGULATOR: "rita",
    Role.STAFF: "sam",
}
# Above a limit two of the staff confirm a payment: the demo has a second one.
SECOND = "second"
SECOND_NAME = "sue"
FIRST_NAMES = {"sue": "Sue", "mia": "Mia", "olga": "Olga", "rita": "Rita", "sam": "Sam"}


def ensure_demo_people(household_account: int | None = None) -> dict[str, User]:
    """Make sure that the demo's people exist and that Mia owns a home with solar panels; return them by role.

    Mia takes the account given by its index, by default the first free one whose home has panels and, if there is one,
    a battery. Who has a home keeps it, so calling this again after a restart is harmless.
    """
    people = {role.value: _person(role, username) for role, username in PEOPLE.items()}
    _person(Role.STAFF, SECOND_NAME)
    mia = people[Role.HOUSEHOLD.value]
    if queries.account_of(mia) is None:
        index = _sunny_account() if household_account is None else household_account
        if index is not None:
            operations.claim_account(user=mia, account_index=index)
    return people


def demo_person(role: str) -> User | None:
    """Return the demo's person in a role, or None when there is none (yet)."""
    if role == SECOND:
        return User.objects.filter(username=SECOND_NAME, role=Role.STAFF, is_active=True).first()
    if role not in Role.values:
        return None
    return User.objects.filter(username=PEOPLE[Role(role)], role=role, is_active=True).first()


def _person(role: Role, username: str) -> User:
    found = User.objects.filter(username=username).first()
    if found is None:
        found = operations.create_person(username=username, password=None, role=role)
        found.first_name = FIRST_NAMES[username]
        found.save(update_fields=["first_name"])
    return found


def _sunny_account() -> int | None:
    free = Account.objects.filter(user=None, closed_at=None, home__pv_w__gt=0)
    for accounts in (free.filter(home__battery_wh__gt=0), free):
        index = accounts.order_by("index").values_list("index", flat=True).first()
        if index is not None:
            return index
    return None
