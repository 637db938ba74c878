"""`manage.py serve`: the market in one process."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from market.agents.members import MembersService
from market.config import database, runtime, server
from market.exchange.witnesses import WitnessService
from market.households.endings import Watch
from market.metering.service import MeteringService
from market.notices.service import PushService
from market.pages.outbox import OUTBOX
from market.settlement.service import SettlementService
from market.streaming import hub


class Command(BaseCommand):
    """Bring the database up to date, then serve pages, REST and streams until a signal ends it."""

    help = "Serve pages, REST and streams with the exchange in this process."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8000)

    def handle(self, *args: Any, **options: Any) -> None:
        database.prepare()
        runtime.configure(
            services=[
                MeteringService(),
                SettlementService(),
                MembersService(),
                WitnessService(hub.announce),
                PushService(),
                OUTBOX,
                Watch(),
            ]
        )
        sys.exit(server.run(host=options["host"], port=options["port"]))
