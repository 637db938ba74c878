"""`manage.py ledger_key show|rotate|revoke`: change the key that signs the ledger, while the market is stopped."""

from __future__ import annotations

import base64
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ledger import keys, queries
from ledger.core.keyring import key_statement
from ledger.loading import LogDamaged
from ledger.signing import SigningKeys
from market.config import database
from market.engine.commands import RegisterKey
from market.exchange.exchange import Exchange
from market.exchange.outcomes import ExchangeError


def _standing_still() -> int:
    """Market time stays at the last entry's: nothing is delivered or expires because a key is changed."""
    return 0


class Command(BaseCommand):
    """Show, rotate or revoke signing keys. The changes are entries of the ledger."""

    help = (
        "show: which keys the ledger names and which are held here. rotate: make a new key; from its entry on both sign every "
        "checkpoint. revoke VKEY: from its entry on that key signs nothing, and its secret is destroyed. The market must be "
        "stopped: the command opens it for a moment."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=("show", "rotate", "revoke"))
        parser.add_argument(
            "vkey", nargs="?", default="", help="with revoke: the verifier key, or its id (8 hex digits)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        database.prepare()
        try:
            held = keys.signing_keys()
            valid = queries.valid_keys()
            if options["action"] == "show":
                self._show(held, valid)
            elif not valid:
                raise CommandError("the market has not been founded: there is no key to change")
            elif options["action"] == "rotate":
                self._rotate(held, valid)
            else:
                self._revoke(held, valid, options["vkey"])
        except (keys.KeyFileError, LogDamaged, ExchangeError) as error:
            raise CommandError(str(error)) from error

    def _show(self, held: SigningKeys, valid: list[str]) -> None:
        mine = held.vkeys()
        for vkey in valid:
            self.stdout.write(f"{vkey}  valid, {'signs here' if vkey in mine else 'not held here'}")
        for vkey in mine:
            if vkey not in valid:
                self.stdout.write(f"{vkey}  held here, not valid on the ledger: it signs nothing")

    def _rotate(self, held: SigningKeys, valid: list[str]) -> None:
        known = queries.known_keys()
        # One that was made by a rotation that did not get to its entry is taken up again.
        new = next((vkey for vkey in held.vkeys() if vkey not in known), None) or held.make()
        approving = next((vkey for vkey in reversed(valid) if vkey in held.vkeys()), None)
        if approving is None:
            raise CommandError("none of the valid keys is held here: nobody can approve a new one")
        statement = key_statement(held.origin, new)
        signatures = [base64.b64encode(held.sign(vkey, statement)).decode() for vkey in (new, approving)]
        self._register(RegisterKey("add", new, *signatures))
        self.stdout.write(f"added {new}")
        self.stdout.write("From now on every checkpoint is signed by all of:")
        for vkey in [*valid, new]:
            self.stdout.write(f"  {vkey}")
        self.stdout.write("Give the new key to witnesses and readers; then revoke the old one.")

    def _revoke(self, held: SigningKeys, valid: list[str], wanted: str) -> None:
        # One whose revocation got to its entry and not to its secret is taken up again.
        begun = [vkey for vkey in held.vkeys() if vkey in queries.known_keys() and vkey not in valid]
        found = [vkey for vkey in [*valid, *begun] if vkey == wanted or (wanted and vkey.split("+")[1] == wanted)]
        if len(found) != 1:
            raise CommandError(f"expected one of the valid keys: {', '.join(valid)}")
        (vkey,) = found
        if vkey in valid:
            self._register(RegisterKey("revoke", vkey))
            self.stdout.write(f"revoked {vkey}")
            if vkey not in held.vkeys():
                return
        try:
            held.drop(vkey)
        except keys.KeyFileError as error:
            self.stdout.write(f"its secret is still there: {error}")
        else:
            self.stdout.write(f"{vkey} was revoked{'' if vkey in valid else ' before'}; its secret is destroyed")

    def _register(self, command: RegisterKey) -> None:
        exchange = Exchange(_standing_still)
        exchange.start()
        try:
            outcome = exchange.call(command)
        finally:
            exchange.stop()
        if outcome.refused is not None:
            raise CommandError(f"the market refuses: {outcome.refused.field}")
