"""`manage.py send_summaries`: e-mail last week's summary to all who asked for it. Run it once a week, or every hour."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from market.pages.summaries import MAX_PEOPLE, send_week
from market.settlement import statement_queries
from market.settlement.periods import last_week, parse_week


class Command(BaseCommand):
    """Send the summaries of a week; nobody gets the same one twice."""

    help = (
        "E-mail the summary of a week to the households that asked for it on their account page. Safe to repeat and to "
        "kill: a week's summary is noted before it is sent, so nobody gets it twice."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--week", metavar="YYYY-Www", help="a week that is over (default: the last one)")
        parser.add_argument("--limit", type=int, default=MAX_PEOPLE, help="send at most so many e-mails in this run")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["limit"] < 1:
            raise CommandError(f"--limit: expected at least 1, was {options['limit']}")
        today = statement_queries.local_day(statement_queries.market_now_ms())
        try:
            week = parse_week(options["week"]) if options["week"] else last_week(today)
        except ValueError as error:
            raise CommandError(f"--week: {error}") from error
        if week.end > today:
            raise CommandError(f"--week: {week.name} is not over yet")
        try:
            done = send_week(week=week, now=timezone.now(), limit=options["limit"])
        except OSError as error:
            raise CommandError(
                f"the mail server cannot be reached or was lost; run this again: {type(error).__name__}"
            ) from error
        self.stdout.write(
            f"{week.name}: {done.sent} sent, {done.before} had been sent before, {done.nothing} with nothing to say, "
            f"{done.refused} refused by the mail server."
        )
