"""``manage.py witness``: a witness of logs, for a regulator, an operator, or anybody. It needs no market and no database."""

from __future__ import annotations

import logging
import sqlite3
import sys
from pathlib import Path
from typing import Any

import uvicorn
from django.core.management.base import BaseCommand, CommandError, CommandParser

from ledger.core.note import NoteError, parse_vkey
from ledger.secretfiles import KeyFileError
from ledger.witness_server import StateLost, Witness, WitnessApp, origin_hash


class Command(BaseCommand):
    """Serve the witness protocol until a signal ends it."""

    help = (
        "Run a witness (https://c2sp.org/tlog-witness) for the logs whose verifier keys are given. Its key and what it has "
        "cosigned are in the folder: never run two of them on copies of one folder, never put an older copy back."
    )
    requires_migrations_checks = False
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the command's arguments."""
        parser.add_argument(
            "--log-vkey", action="append", default=[], required=True, help="verifier key of a log (repeat for more)"
        )
        parser.add_argument("--folder", type=Path, required=True, help="where its key and its state are kept")
        parser.add_argument("--name", default="witness.sunledger.example", help="name under which it cosigns")
        parser.add_argument(
            "--begin", action="store_true",
            help="start anew with a key whose state is lost: it would cosign a fork of what it has cosigned before",
        )  # fmt: skip
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8100)

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve."""
        logging.getLogger("ledger").setLevel(logging.INFO)
        try:
            keys = [parse_vkey(text.strip()) for text in options["log_vkey"]]
            witness = Witness(options["folder"], options["name"], keys, begin=options["begin"])
        except NoteError as error:
            raise CommandError(str(error)) from error
        except StateLost as error:
            raise CommandError(
                f"{error}: it would cosign a fork as if it were the first head it sees. Take a new folder and give its new "
                "key to the policies; --begin goes on with this key and knows nothing"
            ) from error
        except (KeyFileError, OSError, sqlite3.Error) as error:
            raise CommandError(f"{options['folder']}: {error}") from error
        self.stdout.write(f"witness {witness.vkey}")
        for key in keys:
            self.stdout.write(f"log {key} at /{origin_hash(key.name)}/checkpoint")
        self.stdout.flush()
        config = uvicorn.Config(
            WitnessApp(witness),
            host=options["host"],
            port=options["port"],
            lifespan="off",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            log_config=None,
            limit_concurrency=100,
        )
        server = uvicorn.Server(config)
        server.run()
        if not server.started:
            sys.exit(3)
