"""What `make bench` calls a sealed block is one: all of the market's entries, chained, signed and published."""

from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from ledger.core.blocks import Chain
from ledger.core.encoding import decode
from ledger.core.merkle import leaf_hashes, root_of
from ledger.core.note import open_checkpoint, parse_vkey
from ledger.operations import verifier_key
from tests.load.audit_log import SEED, City
from tests.load.seal_child import SealedLog
from tests.market_log import RULES

pytestmark = pytest.mark.django_db(transaction=True)

ENTRIES = 2_000
BLOCK = 500


@pytest.fixture
def log(tmp_path: Path, settings: Any) -> Any:
    settings.PUBLISHED_CHECKPOINT_FILE = tmp_path / "checkpoint"
    log = SealedLog()
    yield log
    log.store.close()


def test_the_measured_blocks_are_blocks(log: SealedLog) -> None:
    city = City(SEED, log, homes_per_area=1)
    city.trade(log.engine.seq + ENTRIES, BLOCK)
    assert log.sealed is not None
    assert log.blocks == log.sealed.height >= 1 + ENTRIES // BLOCK
    assert len(log.leaves) == log.engine.seq == log.sealed.size
    assert root_of(leaf_hashes(log.leaves)).hex() == log.sealed.root
    published = open_checkpoint(settings.PUBLISHED_CHECKPOINT_FILE.read_bytes(), [parse_vkey(verifier_key())])
    assert (published.size, published.root.hex()) == (log.sealed.size, log.sealed.root)
    chain = Chain(settings.LEDGER_ORIGIN, "EUR")
    hashes = leaf_hashes(log.leaves)
    for seq, entry in enumerate(map(decode, log.leaves)):
        if entry["type"] == "seal":
            chain.check(entry, seq=seq, root_before=root_of(hashes[:seq]), rules=RULES)
            chain.advance(size=seq + 1, root=root_of(hashes[: seq + 1]))
    assert chain.height == log.blocks
    assert all(seconds > 0 for seconds in log.spent.values()), log.spent
