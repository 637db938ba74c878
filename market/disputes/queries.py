"""What may be asked about disputes."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from market.disputes.models import Dispute, State, Step
from market.disputes.operations import ANSWERED, numbers
from market.households.models import User

MAX_LIST = 200


class StepView(NamedTuple):
    """One step: ``who`` is the official's name, "" for the member; ``text`` is plain."""

    after: str
    at: datetime
    who: str
    code: str
    text: str
    commitment: str
    import_wh: int | None
    export_wh: int | None


class DisputeView(NamedTuple):
    """A dispute with its steps, oldest first."""

    id: int
    account: int
    area: str
    kind: str
    contract: str
    seq: int
    import_wh: int | None
    export_wh: int | None
    state: str
    reopened: bool
    opened_at: datetime
    corrected_seq: int | None
    steps: list[StepView]

    @property
    def claimed(self) -> tuple[int | None, int | None]:
        """Return what the household says it was, taken and given; where it says nothing, what the reading said."""
        import_wh, export_wh = self.import_wh, self.export_wh
        for step in self.steps:
            if not step.who:
                import_wh = import_wh if step.import_wh is None else step.import_wh
                export_wh = export_wh if step.export_wh is None else step.export_wh
        return import_wh, export_wh

    @property
    def may_reopen(self) -> bool:
        """Return whether its answer may be contested."""
        return self.state == State.DECLINED and not self.reopened


def disputes_of(account_index: int, *, before: int | None = None, limit: int = MAX_LIST) -> list[DisputeView]:
    """Return the disputes of a home, by its present number, newest first, those before an id when it is given."""
    rows = Dispute.objects.filter(account__index__in=numbers(account_index))
    if before is not None:
        rows = rows.filter(pk__lt=before)
    return _views(list(rows.select_related("account").order_by("-pk")[: min(limit, MAX_LIST)]))


def dispute(dispute_id: int) -> DisputeView | None:
    """Return a dispute, or None."""
    found = _views(list(Dispute.objects.filter(pk=dispute_id).select_related("account")))
    return found[0] if found else None


def waiting() -> list[DisputeView]:
    """Return the disputes that wait for an answer, oldest first."""
    return _views(list(Dispute.objects.filter(state=State.OPEN).select_related("account").order_by("pk")[:MAX_LIST]))


def answered(account_index: int) -> int:
    """Return how many answers a home has not agreed with or contested yet."""
    return Dispute.objects.filter(account__index__in=numbers(account_index), state__in=ANSWERED).count()


def _views(rows: list[Dispute]) -> list[DisputeView]:
    steps: dict[int, list[StepView]] = {row.pk: [] for row in rows}
    known = list(Step.objects.filter(dispute__in=rows).order_by("dispute_id", "n"))
    names = {user.pk: user.username for user in User.objects.filter(pk__in={step.by for step in known if step.by})}
    for step in known:
        steps[step.dispute_id].append(
            StepView(
                step.after, step.at, names.get(step.by or 0, ""), step.code, step.text.partition(":")[2],
                step.commitment, step.import_wh, step.export_wh,
            )
        )  # fmt: skip
    return [
        DisputeView(
            row.pk, row.account.index, row.account.area, row.kind, row.contract, row.seq, row.import_wh, row.export_wh,
            row.state, row.reopened, row.opened_at, row.corrected_seq, steps[row.pk],
        )
        for row in rows
    ]  # fmt: skip
