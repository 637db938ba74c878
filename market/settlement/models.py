"""Who wants a weekly summary by e-mail, and which were sent. No address is here: it is the person's, and sealed."""

from __future__ import annotations

from django.db import models

from market.households.models import User

WEEK_LENGTH = 8  # 2026-W23


class Subscription(models.Model):
    """A person who asked for the weekly summary; no row: none is sent. Erasing the person takes the row along."""

    user = models.OneToOneField(User, on_delete=models.CASCADE, related_name="+")
    since = models.DateTimeField()


class Summary(models.Model):
    """One week's summary of one person. The row is there before the e-mail goes: nobody gets the same one twice."""

    class State(models.TextChoices):
        """What is known about the e-mail."""

        SENDING = "sending"  # it may have gone or not: cut short in between. It is not sent again.
        SENT = "sent"
        REFUSED = "refused"  # the mail server said no; the next run tries again

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    week = models.CharField(max_length=WEEK_LENGTH)
    state = models.CharField(max_length=7, choices=State.choices)
    at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "week"], name="summary_once_a_week")]
