"""``manage.py mqtt_gateway``: take readings from an MQTT broker into the market's database."""

from __future__ import annotations

import signal
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from market.exchange.exchange import wall_clock_ms
from market.metering.mqtt import Gateway


class Command(BaseCommand):
    """A process of its own beside the server; several need client ids of their own."""

    help = "Take readings from an MQTT broker. Name and password: SUNLEDGER_MQTT_USER, SUNLEDGER_MQTT_PASSWORD."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="localhost")
        parser.add_argument("--port", type=int, default=1883)
        parser.add_argument("--client-id", default="sunledger-gateway")
        parser.add_argument("--tls", action="store_true", help="encrypt, with the system's certificate authorities")

    def handle(self, *args: Any, **options: Any) -> None:
        gateway = Gateway(
            host=options["host"],
            port=options["port"],
            clock=wall_clock_ms,
            username=settings.MQTT_USER,
            password=settings.MQTT_PASSWORD,
            client_id=options["client_id"],
            tls=options["tls"],
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: gateway.stop())
        try:
            gateway.run()
        except OSError as error:
            raise CommandError(f"{options['host']}:{options['port']}: the broker cannot be reached: {error}") from error
        self.stdout.write(f"{gateway.taken} messages taken")
