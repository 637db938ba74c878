"""What the meters said, for screens, statements and settlement. Contracts by name, energies in Wh, power in W."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from django.db.models import Count, F, Max, Sum

from market.engine.contracts import contract_name, contract_start_ms
from market.exchange.figures import figures as cache
from market.metering.estimation import Past, days_before
from market.metering.models import Quality, Reading

POWER_KEY = "metering.power.%d"
POWER_KEPT_S = 60  # real time; a home nobody noted for a minute has no "now"
OUTLOOK_KEY = "metering.outlook.%d"
OUTLOOK_KEPT_S = 1_800  # real time: two intervals
MAX_WEEK = 1_000  # readings of one account in one answer: ten days of quarter hours
MAX_DAY = 200  # readings of one account in one answer: two days of quarter hours
MAX_ACCOUNTS = 200_000  # readings of one contract in one answer; a city six times the benchmark's
IN_ONE_QUERY = 1_000  # accounts
VALUES = (
    "start_ms", "import_wh", "export_wh", "produced_wh", "used_wh", "quality", "version", "received_ms", "seq", "n",
    "reason",
)  # fmt: skip


class ReadingLine(NamedTuple):
    """The newest version of one reading of one account. ``produced_wh``/``used_wh`` None = not known."""

    contract: str
    start_ms: int
    import_wh: int
    export_wh: int
    produced_wh: int | None
    used_wh: int | None
    quality: str
    version: int
    received_ms: int
    seq: int  # the ledger's readings entry
    n: int  # the row in it
    reason: str = ""  # a code of ``validation``: why it is not simply measured


class Power(NamedTuple):
    """What a home makes and uses at a moment; net import is ``used_w - produced_w + battery_w``."""

    at_ms: int
    produced_w: int
    used_w: int
    battery_w: int  # into the battery; negative = out of it


class Outlook(NamedTuple):
    """What a home will probably make and use, Wh by interval from ``start_ms`` on: a forecast, not a record."""

    start_ms: int
    made_wh: tuple[int, ...]
    used_wh: tuple[int, ...]


class Energy(NamedTuple):
    """Sums over readings."""

    readings: int
    import_wh: int
    export_wh: int
    produced_wh: int
    used_wh: int


class Metered(NamedTuple):
    """One account's meter in one contract, as settlement wants it."""

    import_wh: int
    export_wh: int
    quality: str


def latest(account: int) -> ReadingLine | None:
    """Return an account's reading of its latest contract, or None."""
    found = _newest(Reading.objects.filter(account=account).order_by("-start_ms", "-version").values_list(*VALUES)[:1])
    return found[0] if found else None


def newest(account: int, *, limit: int) -> list[ReadingLine]:
    """Return an account's readings of its latest contracts, newest first."""
    rows = Reading.objects.filter(account=account).order_by("-start_ms", "-version").values_list(*VALUES)
    return _newest(rows[: 2 * limit])[:limit]


def day(account: int, *, start_ms: int, end_ms: int) -> list[ReadingLine]:
    """Return an account's readings of contracts with start_ms <= start < end_ms, oldest first; at most ``MAX_DAY``."""
    rows = Reading.objects.filter(account=account, start_ms__gte=start_ms, start_ms__lt=end_ms)
    return _newest(rows.order_by("start_ms", "-version").values_list(*VALUES)[: 2 * MAX_DAY])[:MAX_DAY]


def sums(account: int, *, start_ms: int, end_ms: int) -> Energy:
    """Return an account's energy over contracts with start_ms <= start < end_ms; unknown parts count as 0."""
    lines = day(account, start_ms=start_ms, end_ms=end_ms)
    return Energy(
        len(lines),
        sum(line.import_wh for line in lines),
        sum(line.export_wh for line in lines),
        sum(line.produced_wh or 0 for line in lines),
        sum(line.used_wh or 0 for line in lines),
    )


def readings_for(contract: str, area: str) -> dict[int, Metered]:
    """Return the newest readings of an area in a contract, by account."""
    return readings_of(contract, [area]).get(area, {})


def readings_of(contract: str, areas: list[str] | None = None) -> dict[str, dict[int, Metered]]:
    """Return the newest readings of a contract, by area and account; of all areas, or of some."""
    rows = Reading.objects.filter(start_ms=contract_start_ms(contract))
    if areas is not None:
        rows = rows.filter(area__in=areas)
    found: dict[str, dict[int, Metered]] = {}
    for area, account, import_wh, export_wh, quality in (
        rows.order_by("account", "version")
        .values_list("area", "account", "import_wh", "export_wh", "quality")[:MAX_ACCOUNTS]
        .iterator()
    ):
        # A corrected value is a measurement too; settlement only asks whether there was one.
        found.setdefault(area, {})[account] = Metered(
            import_wh, export_wh, "estimated" if quality == "estimated" else "measured"
        )
    return found


def history(accounts: Collection[int], *, start_ms: int, final_after_ms: int) -> dict[int, dict[int, Past]]:
    """Return what an estimate for the interval at ``start_ms`` may lean on, by account and start (``estimation.estimate``).

    Measured and corrected readings of the same time of day, of days that are final by then: a fixed window.
    """
    starts = days_before(start_ms, final_after_ms)
    found: dict[int, dict[int, Past]] = {}
    names = sorted(accounts)
    for at in range(0, len(names), IN_ONE_QUERY):
        rows = Reading.objects.filter(start_ms__in=starts, account__in=names[at : at + IN_ONE_QUERY])
        fields = ("account", "start_ms", "import_wh", "export_wh", "quality")
        for account, start, import_wh, export_wh, quality in rows.order_by("version").values_list(*fields).iterator():
            days = found.setdefault(account, {})
            days.pop(start, None)
            if quality != Quality.ESTIMATED:
                days[start] = Past(import_wh, export_wh)
    return found


def energies(accounts: Collection[int], *, start_ms: int, end_ms: int) -> dict[int, dict[int, tuple[int, int]]]:
    """Return what went in and out of connections (Wh) by account and start, of starts in a span; the newest versions.

    Estimates are left out: whoever learns from them learns what somebody else guessed.
    """
    found: dict[int, dict[int, tuple[int, int]]] = {}
    names = sorted(accounts)
    for at in range(0, len(names), IN_ONE_QUERY):
        rows = Reading.objects.filter(
            account__in=names[at : at + IN_ONE_QUERY], start_ms__gte=start_ms, start_ms__lt=end_ms
        )
        fields = ("account", "start_ms", "import_wh", "export_wh", "quality")
        for account, start, import_wh, export_wh, quality in rows.order_by("version").values_list(*fields).iterator():
            of = found.setdefault(account, {})
            of.pop(start, None)
            if quality != Quality.ESTIMATED:
                of[start] = (import_wh, export_wh)
    return found


def answered(contract: str) -> dict[str, set[int]]:
    """Return which accounts of each area have a reading in a contract; areas without any are left out."""
    found: dict[str, set[int]] = {}
    rows = Reading.objects.filter(start_ms=contract_start_ms(contract), version=0)
    for area, account in rows.values_list("area", "account").iterator():
        found.setdefault(area, set()).add(account)
    return found


def answered_in_time(accounts: Collection[int], starts: Sequence[int], *, within_ms: int) -> set[int]:
    """Return the accounts whose meters said something of any of these intervals at most ``within_ms`` after its start."""
    found: set[int] = set()
    names = sorted(accounts)
    for at in range(0, len(names), IN_ONE_QUERY):
        rows = Reading.objects.filter(start_ms__in=list(starts), account__in=names[at : at + IN_ONE_QUERY])
        in_time = rows.filter(received_ms__lte=F("start_ms") + within_ms).exclude(quality=Quality.ESTIMATED)
        found.update(in_time.values_list("account", flat=True))
    return found


def totals() -> Energy:
    """Return the sums over all readings, first versions only (what a run of the simulator reports)."""
    found = Reading.objects.filter(version=0).aggregate(
        Count("account"), Sum("import_wh"), Sum("export_wh"), Sum("produced_wh"), Sum("used_wh")
    )
    return Energy(
        found["account__count"],
        *(found[f"{name}__sum"] or 0 for name in ("import_wh", "export_wh", "produced_wh", "used_wh")),
    )


def stored_wh(accounts: list[int]) -> dict[int, int]:
    """Return what went into each home beyond its use since the first reading (Wh): with a battery, what it took up."""
    rows = Reading.objects.filter(account__in=accounts, version=0, produced_wh__isnull=False, used_wh__isnull=False)
    found = rows.values("account").annotate(
        taken=Sum("import_wh"), given=Sum("export_wh"), made=Sum("produced_wh"), used=Sum("used_wh")
    )
    return {row["account"]: row["taken"] - row["given"] + row["made"] - row["used"] for row in found}


def newest_contract() -> str | None:
    """Return the latest contract any reading is for, or None."""
    found = Reading.objects.aggregate(Max("start_ms"))["start_ms__max"]
    return None if found is None else contract_name(found)


def power_now(account: int) -> Power | None:
    """Return what a home makes and uses now, or None when nobody measures it."""
    found = cache.get(POWER_KEY % account)
    return None if found is None else Power(*found)


def outlook(account: int) -> Outlook | None:
    """Return what a home's own controller expects of it, or None when nobody says."""
    found = cache.get(OUTLOOK_KEY % account)
    return None if found is None else Outlook(*found)


def made_and_used(account: int, *, start_ms: int, end_ms: int) -> dict[int, tuple[int, int]]:
    """Return energy made and used (Wh) of an account by start of interval, start_ms <= start < end_ms, newest versions.

    Where only the meter at the connection is known, what it gave counts as made and what it took as used.
    """
    rows = Reading.objects.filter(account=account, start_ms__gte=start_ms, start_ms__lt=end_ms)
    fields = ("start_ms", "produced_wh", "used_wh", "export_wh", "import_wh")
    found: dict[int, tuple[int, int]] = {}
    for start, produced, used, given, taken in rows.order_by("start_ms", "version").values_list(*fields)[:MAX_WEEK]:
        found[start] = (given, taken) if produced is None or used is None else (produced, used)
    return found


def _newest(rows) -> list[ReadingLine]:  # type: ignore[no-untyped-def]
    """Keep the first row of each contract; the rows come with the highest version first."""
    lines: dict[int, ReadingLine] = {}
    for row in rows:
        if row[0] not in lines:
            lines[row[0]] = ReadingLine(contract_name(row[0]), *row)
    return list(lines.values())
