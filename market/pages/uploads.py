"""A household uploads readings as a file: CSV or Green Button. First it is shown what is in it, then it may be taken."""

from __future__ import annotations

import secrets
import zlib
from typing import Any, NamedTuple

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from market.exchange.figures import figures as cache
from market.exchange.outcomes import ExchangeError
from market.households import devices, queries
from market.households.devices import DeviceInfo
from market.households.models import DeviceKind, Role
from market.metering import estimation, intake, validation
from market.metering import queries as metering
from market.metering.formats import csvbatch, espi
from market.metering.formats.values import MAX_FILE_BYTES, MAX_FILE_VALUES, MAX_VALUES, FormatError, Value
from market.pages.context import market_now, running_exchange
from market.pages.forms import UploadForm
from market.pages.roles import only_for, problem_sentence

SHOWN_VALUES = 12
SHOWN_READINGS = 24
KEPT_S = 900  # a preview, packed and one a person; a longer look asks for the file again
KEY = "uploads.%d"
TOKEN_BYTES = 16
XML_HEADS = (b"<?xml", b"<feed", b"<!--", b"<")

PROBLEMS = {
    "encoding": gettext_lazy("The file is not in UTF-8. Export or save it again in UTF-8."),
    "too_large": gettext_lazy("The file is too large; at most 12 MB are read."),
    "too_many": gettext_lazy("There are too many values in the file; at most a year of quarter hours is read."),
    "malformed": gettext_lazy("The file cannot be read: it is broken or of another kind."),
    "forbidden_xml": gettext_lazy(
        "The file has a document type or entities; Green Button files have none. It is not read."
    ),
    "too_deep": gettext_lazy("The file is nested too deeply. It is not read."),
    "not_espi": gettext_lazy("This is not a Green Button file with readings."),
    "other_unit": gettext_lazy("The file has no electricity in Wh."),
    "empty": gettext_lazy("There is no reading in the file."),
    "invalid_value": gettext_lazy("A value cannot be right."),
    "missing_column": gettext_lazy("A column is missing: the first line must name start and import_wh or import_kwh."),
    "unknown_column": gettext_lazy("The first line names a column that is not known."),
}
VERDICTS = {
    validation.ACCEPTED: gettext_lazy("new"),
    validation.CORRECTED: gettext_lazy("corrections"),
    validation.DUPLICATE: gettext_lazy("known already"),
    validation.SUPERSEDED: gettext_lazy("older than a correction"),
    validation.UNKNOWN_DEVICE: gettext_lazy("of another device"),
    validation.CLOCK_AHEAD: gettext_lazy("in the future"),
    validation.TOO_OLD: gettext_lazy("too old"),
    validation.OFF_GRID: gettext_lazy("not on the minute"),
    validation.TOO_LONG: gettext_lazy("longer than a day"),
    validation.ABOVE_RATING: gettext_lazy("more than the device can carry"),
    validation.TOO_MANY: gettext_lazy("corrected too often"),
    validation.ABOVE_CONNECTION: gettext_lazy("more than your connection can carry"),
}
REASONS = {
    validation.SPLIT: gettext_lazy("split from a longer value"),
    validation.SENDER: gettext_lazy("estimated by its sender"),
    validation.ROLLOVER: gettext_lazy("the counter began again"),
    validation.REVISED: gettext_lazy("a correction"),
    validation.DECIDED: gettext_lazy("decided after an objection"),
    estimation.SAME_DAYS: gettext_lazy("the home's own values on the same weekdays"),
    estimation.ANY_DAYS: gettext_lazy("the home's own values at the same time of day"),
    estimation.PROFILE: gettext_lazy("the profile of such homes"),
}
QUALITIES = {
    "measured": gettext_lazy("measured"),
    "estimated": gettext_lazy("estimated"),
    "corrected": gettext_lazy("corrected"),
}


class Preview(NamedTuple):
    """What is in a file, before anything is taken."""

    device: str
    kind: str
    count: int
    first_ms: int
    last_ms: int
    import_wh: int
    export_wh: int
    counters: int
    shown: list[Value]


@never_cache
@only_for(Role.HOUSEHOLD)
@require_http_methods(["GET", "POST"])
def readings(request: HttpRequest) -> HttpResponse:
    """Show a household's newest readings and the form for a file; with a file, what is in it."""
    own = _own(request)
    if request.method != "POST":
        return _show(request, own, UploadForm(devices=_choices(own)))
    form = UploadForm(request.POST, request.FILES, devices=_choices(own))
    if not form.is_valid():
        return _show(request, own, form)
    file = form.cleaned_data["file"]
    if file.size > MAX_FILE_BYTES:
        form.add_error("file", str(PROBLEMS["too_large"]))
        return _show(request, own, form)
    data = file.read()
    try:
        values = parse(data, received_ms=_now_ms())
    except FormatError as error:
        form.add_error("file", sentence(error))
        return _show(request, own, form)
    token = secrets.token_hex(TOKEN_BYTES)
    cache.set(KEY % request.user.pk, (token, form.cleaned_data["device"], zlib.compress(data, 1)), KEPT_S)
    return _show(request, own, form, preview=_preview(form.cleaned_data["device"], data, values), token=token)


@never_cache
@only_for(Role.HOUSEHOLD)
@require_POST
def take(request: HttpRequest) -> HttpResponse:
    """Take what a preview showed; sent twice it counts once."""
    own = _own(request)
    token, name, packed = cache.get(KEY % request.user.pk) or ("", "", b"")
    device = next((one for one in own if one.device_id == name), None)
    form = UploadForm(devices=_choices(own))
    exchange = running_exchange()
    if not token or token != request.POST.get("token") or device is None:
        return _show(request, own, form, notice=_("The preview is too old. Choose the file again."))
    if exchange is None:
        return _show(request, own, form, notice=_("The market is not running at the moment. Nothing was done."))
    now_ms = exchange.now_ms()
    verdicts: dict[str, int] = {}
    try:
        limits = intake.limits_of(exchange, {device.account})
        values = parse(zlib.decompress(packed), received_ms=now_ms)
        for start in range(0, len(values), MAX_VALUES):
            sent = intake.Sent(
                values[start : start + MAX_VALUES],
                {"": device, device.device_id: device},
                oldest_ms=now_ms - validation.MAX_FILE_AGE_MS,
            )
            for code, _first, count in intake.runs(intake.take(sent=sent, limits=limits, now_ms=now_ms).verdicts):
                verdicts[code] = verdicts.get(code, 0) + count
    except ExchangeError as error:
        return _show(request, own, form, notice=problem_sentence(error))
    told = [(str(VERDICTS.get(code, code)), count, code in validation.TAKEN) for code, count in verdicts.items()]
    return _show(request, own, form, verdicts=told)


def parse(data: bytes, *, received_ms: int) -> list[Value]:
    """Return the values of a file, Green Button or CSV by how it begins. Raise ``FormatError``."""
    head = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith(XML_HEADS):
        return espi.parse(data, received_ms=received_ms, limit=MAX_FILE_VALUES)
    return csvbatch.parse(data, received_ms=received_ms, limit=MAX_FILE_VALUES)


def sentence(error: FormatError) -> str:
    """Return what to tell a person about a file that cannot be read, with the place where that is known."""
    text = str(PROBLEMS.get(error.code, PROBLEMS["malformed"]))
    if error.line:
        text += " " + _("Line %(line)s.") % {"line": error.line}
    if error.field:
        text += f" ({error.field})"
    return text


def _preview(device: str, data: bytes, values: list[Value]) -> Preview:
    kind = "Green Button" if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<") else "CSV"
    energies = [value for value in values if not value.register]
    return Preview(
        device,
        kind,
        len(values),
        min(value.start_ms for value in values),
        max(value.start_ms + value.duration_ms for value in values),
        sum(value.import_wh for value in energies),
        sum(value.export_wh for value in energies),
        len(values) - len(energies),
        values[:SHOWN_VALUES],
    )


def _now_ms() -> int:
    return int(market_now().timestamp() * 1_000)


def _own(request: HttpRequest) -> list[DeviceInfo]:
    mine = queries.account_of(request.user)
    if mine is None:
        return []
    return [one for one in devices.of_account(mine.index) if one.revoked_ms is None]


def _choices(own: list[DeviceInfo]) -> list[tuple[str, str]]:
    names = devices.names([one.pk for one in own])
    return [(one.device_id, f"{names[one.pk]} ({DeviceKind(one.kind).label})") for one in own]


def _show(
    request: HttpRequest,
    own: list[DeviceInfo],
    form: UploadForm,
    *,
    preview: Preview | None = None,
    token: str = "",
    verdicts: list[tuple[str, int, bool]] | None = None,
    notice: str = "",
) -> HttpResponse:
    mine = queries.account_of(request.user)
    rows = [] if mine is None else metering.newest(mine.index, limit=SHOWN_READINGS)
    context: dict[str, Any] = {
        "devices": own,
        "form": form,
        "preview": preview,
        "token": token,
        "verdicts": verdicts,
        "notice": notice,
        "rows": [(row, QUALITIES[row.quality], REASONS.get(row.reason, "")) for row in rows],
    }
    return render(request, "account/readings.html", context, status=422 if form.errors or notice else 200)


urlpatterns = [
    path("account/readings", readings, name="own-readings"),
    path("account/readings/take", take, name="take-readings"),
]
