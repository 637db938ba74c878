"""Following a long log: tiles of three levels, keys that change hands on the way, a snapshot among signed orders."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from ledger.core.encoding import encode
from ledger.core.keyring import key_statement
from ledger.core.note import Signer, parse_note, parse_vkey, signature_line
from ledger.core.tiles import TILE_WIDTH
from ledger.core.verify import verify_log
from ledger.files import FolderSource
from market.engine import commands as c
from market.follow.evidence import Mismatch
from market.follow.follower import NEWEST, Follower
from tests.integration.following import VKEYS, Server, copied, dump_at, state
from tests.market_log import ORIGIN, RULES, SIGNER, lie, signed_files
from tests.unit.audit_market import AFTER, NOON, Town, of_type, place
from tests.unit.ledger_logs import source
from tests.unit.test_audit_signatures import NEWER, SigningTown
from tests.unit.test_audit_signatures import NEWEST as THIRD

pytestmark = pytest.mark.once

NEW = Signer(ORIGIN, bytes([61]) * 32)
THIEF = Signer(ORIGIN, bytes([62]) * 32)
LEVEL = TILE_WIDTH**2  # entries below one tile of level 1
BLOCK = 2_000  # entries between two seals of the long log


def add_key(town: Town, new: Signer, approver: Signer = SIGNER) -> None:
    statement = key_statement(ORIGIN, new.vkey)
    signatures = [base64.b64encode(signer.sign_raw(statement)).decode() for signer in (new, approver)]
    town.do(c.RegisterKey("add", new.vkey, *signatures))


def keys_file(town: Town) -> bytes:
    """Return what a market serves at ``keys``."""
    return b"".join(encode(entry) + b"\n" for entry in town.entries if entry["type"] in ("genesis", "key"))


class Long(NamedTuple):
    """A log with more than 65,536 entries, at four times of its life: files by name."""

    town: Town
    files: dict[str, dict[str, bytes]]
    sizes: dict[str, int]


@pytest.fixture(scope="module")
def long_log() -> Long:
    town, sizes = Town(), {}

    def until(size: int) -> int:
        while len(town.entries) < size:
            order = town.order(town.alice, c.SELL, 2_000, 10, AFTER)
            town.do(c.CancelOrder(town.alice, order, "owner"))
            if len(town.entries) % BLOCK < 2:
                town.seal()
        town.seal()
        return len(town.entries)

    sizes["before"] = until(LEVEL - 3_000)  # tiles of level 1 are partial
    add_key(town, NEW)
    sizes["both"] = until(LEVEL - 700)
    town.do(c.RegisterKey("revoke", SIGNER.vkey, "", ""))
    sizes["new"] = until(LEVEL + 100)  # the first tile of level 1 is full, and level 2 has begun
    sizes["last"] = until(LEVEL + 2_000)
    files = {}
    for name, size in sizes.items():
        made = signed_files(town.entries[:size], {}, SIGNER)
        note = made["checkpoint"].decode()
        text = parse_note(note.encode()).text
        line = signature_line(ORIGIN, NEW.key_id, NEW.sign_raw(text))
        made["checkpoint"] = {"before": note, "both": note + line}.get(name, f"{text}\n{line}").encode()
        files[name] = made
    return Long(town, files, sizes)


def test_tiles_of_three_levels_and_a_rotation_are_followed_step_by_step(
    long_log: Long, followed: Callable[..., Follower], tmp_path: Path
) -> None:
    server = Server(long_log.files["before"])
    one = followed(server)
    for name, files in long_log.files.items():
        server.files = files
        server.asked.clear()
        assert one.step() is True, name
        assert copied(one.mirror.folder) == files, name
    assert {path for path in copied(one.mirror.folder) if path.startswith(("tile/1/", "tile/2/"))} == {
        "tile/1/000", "tile/1/001.p/7", "tile/2/000.p/1",
    }  # fmt: skip
    assert len(server.asked) < 20, "only what is new"
    assert state(one) == long_log.town.engine.state_hash()
    one.close()
    assert verify_log(FolderSource(tmp_path / "mirror"), VKEYS).size == long_log.sizes["last"] > LEVEL
    server.asked.clear()
    again = followed(server)
    assert again.step() is False
    assert (server.asked, state(again)) == (["checkpoint"], long_log.town.engine.state_hash())


@pytest.mark.parametrize("begin", ["before", ""])
def test_who_was_away_while_the_key_changed_hands_goes_along_with_the_approved_one(
    long_log: Long, followed: Callable[..., Follower], begin: str
) -> None:
    """The head is signed by a key that the follower has never seen; the one it knows has approved of it, and is revoked."""
    server = Server(long_log.files["before"])
    one = followed(server)
    if begin:
        one.step()
    server.files = long_log.files["last"]
    with pytest.raises(Mismatch, match="expected a signature by"):
        one.step()  # nobody has told it of another key
    server.files = long_log.files["last"] | {"keys": keys_file(long_log.town)}
    assert one.step() is True
    assert state(one) == long_log.town.engine.state_hash()


def test_a_key_that_nobody_approved_of_is_not_gone_along_with(
    long_log: Long, followed: Callable[..., Follower]
) -> None:
    """A thief of the name signs the log anew; of its key there is no entry, a made up one, one approved by itself."""
    server = Server(long_log.files["before"])
    one = followed(server)
    one.step()
    kept = copied(one.mirror.folder)["checkpoint"]
    last = long_log.files["last"]
    text = parse_note(last["checkpoint"]).text
    note = f"{text}\n{signature_line(ORIGIN, THIEF.key_id, THIEF.sign_raw(text))}".encode()
    genesis, added = keys_file(long_log.town).splitlines()[:2]
    statement = key_statement(ORIGIN, THIEF.vkey)
    own = base64.b64encode(THIEF.sign_raw(statement)).decode()
    forged = orjson.loads(added) | {"vkey": THIEF.vkey, "possession": own, "approval": own}
    founder = orjson.loads(genesis) | {"vkey": THIEF.vkey}
    for lines in ([genesis], [genesis, encode(forged)], [encode(founder)], [b"x"], []):
        server.files = last | {"checkpoint": note, "keys": b"\n".join(lines)}
        with pytest.raises(Mismatch, match="expected a signature by"):
            one.step()
    assert copied(one.mirror.folder)["checkpoint"] == kept


def test_an_approval_that_is_not_on_the_log_does_not_help(followed: Callable[..., Follower]) -> None:
    """The old key's holder has approved of a key in private: a head by it is refused, the log does not name it."""
    town = Town()
    add_key(town, NEW)
    genesis, added = keys_file(town).splitlines()
    other = Town()
    while len(other.entries) < len(town.entries):
        other.seal()
    files = signed_files(other.entries, {}, SIGNER)
    text = parse_note(files["checkpoint"]).text
    files["checkpoint"] = f"{text}\n{signature_line(ORIGIN, NEW.key_id, NEW.sign_raw(text))}".encode()
    server = Server(files | {"keys": genesis + b"\n" + added + b"\n"})
    with pytest.raises(Mismatch, match="expected a signature by"):
        followed(server).step()


# --- from a snapshot ---------------------------------------------------------------------------------------------------


def a_signed_market(after: Callable[[SigningTown], object] = lambda town: None) -> SigningTown:
    """Return a log: rulebooks, a new key and signed orders before a snapshot, then a bundle of orders and ``after``."""
    town = SigningTown()
    town.place(c.PlaceOrder(town.bob, NOON, c.BUY, 1_900, 100, "gtg", 0), "first")
    town.do(c.PublishRulebook(3, NEWER))
    add_key(town, NEW)
    town.seal()
    town.place(c.PlaceOrder(town.bob, NOON, c.BUY, 1_800, 100, "gtg", 0), "second", NEWER)
    for number in range(300):
        order = town.order(town.alice, c.SELL, 2_500, 10, AFTER)
        town.do(c.CancelOrder(town.alice, order, "owner"))
        if number % 50 == 0:
            town.seal()
    town.snapshot()
    town.seal()
    town.order(town.alice, c.SELL, 1_500, 120, NOON)  # bob's signed orders trade
    after(town)
    town.seal()
    return town


def starts(town: SigningTown, files: dict[str, bytes], followed: Callable[..., Follower], folder: Path) -> list[Any]:
    """Follow a log from zero and from its snapshot; return states, or what was wrong."""
    entry = of_type(town.entries, "snapshot")
    served = files | {f"snapshot/{entry['sha256']}": dump_at(town, entry["seq"])}
    found: list[Any] = []
    for name, snapshot in (("zero", ""), ("snapshot", NEWEST)):
        one = followed(Server(served), folder / name, snapshot=snapshot)
        seen: list[Any] = []
        one.model.take = seen.append  # type: ignore[method-assign]
        try:
            one.step()
        except Mismatch as error:
            found.append(str(error))
        else:
            found.append(state(one))
            assert seen[0].seq == (entry["seq"] if snapshot else 0)
    return found


@pytest.mark.parametrize(
    ("request_", "rules", "passes"),
    [
        ("third", RULES, True), ("third", NEWER, True), ("third", THIRD, False),
        ("second", NEWER, False), ("first", RULES, False),
    ],
)  # fmt: skip
def test_signed_orders_are_judged_alike_from_zero_and_from_a_snapshot(
    followed: Callable[..., Follower], tmp_path: Path, request_: str, rules: str, passes: bool
) -> None:
    """Rulebooks and signatures from before the snapshot count: an order that was placed then is not placed again."""
    price = {"first": 1_900, "second": 1_800, "third": 1_700}[request_]
    after: list[int] = []
    order = c.PlaceOrder(0, NOON, c.BUY, price, 100, "gtg", 0)
    town = a_signed_market(lambda t: after.append(t.place(order._replace(account=t.bob), request_, rules)))
    zero, snapshot = starts(town, town.files(), followed, tmp_path)
    assert zero == snapshot
    if passes:
        assert zero == town.engine.state_hash()
    else:
        assert zero.startswith(place(town.entries[after[0]]))
        assert ("a signature that places one order" if request_ != "third" else "signed under the rulebook") in zero


def test_a_changed_signed_order_after_a_snapshot_is_found(followed: Callable[..., Follower], tmp_path: Path) -> None:
    order = c.PlaceOrder(0, NOON, c.BUY, 1_700, 100, "gtg", 0)
    town = a_signed_market(lambda t: t.place(order._replace(account=t.bob), "third", NEWER))
    seq = of_type(town.entries, "order", -1, account=town.bob)["seq"]
    files = lie(town, lambda entries, rows: entries[seq].update(price_e4=1_701))
    verify_log(source(files), [parse_vkey(SIGNER.vkey)])
    zero, snapshot = starts(town, files, followed, tmp_path)
    assert zero == snapshot
    assert zero.startswith(f"{place(town.entries[seq])}: expected an order signed with the key of account {town.bob}")
