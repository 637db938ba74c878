"""``manage.py ledger_signer``: the log's signing keys in a process (and under a user, if started so) of their own."""

from __future__ import annotations

import json
import logging
import os
import socket
import socketserver
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from ledger.secretfiles import KeyFileError
from ledger.signing import MAX_LINE, FileKeys, SigningKeys, answer

log = logging.getLogger(__name__)

DEFAULT_MODE = "600"  # of the socket: 660 lets the market in through a group that both users share


class Command(BaseCommand):
    """Sign for the market over a Unix socket until a signal ends it."""

    help = (
        "Hold the log's signing keys and sign for a market whose setting LEDGER_SIGNER is unix:SOCKET. Signs heads of the log "
        "SUNLEDGER_LEDGER_ORIGIN and statements about keys it holds, nothing else, and never hands a secret out."
    )
    requires_migrations_checks = False
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the command's arguments."""
        parser.add_argument("--socket", type=Path, help="path of the socket")
        parser.add_argument("--key-file", type=Path, default=None, help="default: SUNLEDGER_LEDGER_KEY_FILE")
        parser.add_argument("--mode", default=DEFAULT_MODE, help=f"mode of the socket, octal (default {DEFAULT_MODE})")
        parser.add_argument("--drop", metavar="VKEY", help="destroy a revoked key instead of serving")

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve, or drop a key."""
        try:
            keys = FileKeys(settings.LEDGER_ORIGIN, options["key_file"] or Path(settings.LEDGER_KEY_FILE))
            if options["drop"]:
                if options["drop"] not in keys.vkeys():
                    raise CommandError(f"the file does not hold {options['drop']}")
                keys.drop(options["drop"])
                self.stdout.write(f"dropped {options['drop']}")
                return
            if options["socket"] is None:
                raise CommandError("expected --socket PATH")
            server = serve(keys, options["socket"], int(options["mode"], 8))
        except (KeyFileError, OSError, ValueError) as error:
            raise CommandError(str(error)) from error
        for vkey in keys.vkeys():
            self.stdout.write(f"signing with {vkey}")
        self.stdout.flush()
        with server:
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                pass
            finally:
                options["socket"].unlink(missing_ok=True)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    keys: SigningKeys


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        while line := self.rfile.readline(MAX_LINE):
            found = answer(self.server.keys, line)
            if "error" in found:
                log.warning("refused: %s", found["error"])
            self.wfile.write(json.dumps(found).encode() + b"\n")


def serve(keys: SigningKeys, path: Path, mode: int = 0o600) -> _Server:
    """Return a signer that listens at a path; raise ``OSError`` when another one does."""
    if path.is_socket():
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                raise OSError(f"{path}: another signer listens there")
        path.unlink()  # of one that was killed
    before = os.umask(0o777 & ~mode)
    try:
        server = _Server(str(path), _Handler)
    finally:
        os.umask(before)
    server.keys = keys
    return server
