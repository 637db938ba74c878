"""``docs/protocol.md`` says what the code does: every channel, code, limit and example."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest

from market.streaming import asgi, channels, hub, protocol, sockets, views

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "protocol.md").read_text()
SOURCES = {path.name: path.read_text() for path in (ROOT / "market" / "streaming").glob("*.py")}


def test_every_channel_is_described() -> None:
    for name in channels.KINDS:
        assert re.search(rf"^\| `{name}[`:]", TEXT, re.M) and re.search(rf"^### `{name}[`:]", TEXT, re.M), name


def test_every_code_is_described() -> None:
    codes = {code for text in SOURCES.values() for code in re.findall(r'BadMessage\(\s*"(\w+)"', text)}
    codes |= set(re.findall(r'"(unknown_\w+)"', SOURCES["views.py"]))
    codes |= {
        code for code in re.findall(r'\(\d{3}, "(\w+)"\)|503, "(\w+)"', SOURCES["asgi.py"]) for code in code if code
    }
    assert len(codes) > 15
    assert {code for code in codes if f"`{code}`" not in TEXT} == set()


def test_every_goodbye_is_described() -> None:
    closes = [value for value in vars(sockets).values() if isinstance(value, sockets.Close)]
    assert len(closes) == 6
    for close in closes:
        assert re.search(rf"^\| {close.code} \| `{close.reason}`", TEXT, re.M), close


@pytest.mark.parametrize(
    "sentence",
    [
        f"GET {asgi.PATH}",
        f'"heartbeat_ms":{protocol.HEARTBEAT_MS}',
        f"at most {protocol.MAX_MESSAGE_BYTES:,} bytes",
        f"{sockets.MAX_SUBSCRIPTIONS} subscriptions a socket",
        f"{sockets.MESSAGES_A_SECOND:.0f} messages a second with bursts of {sockets.MESSAGE_BURST:.0f}",
        f"{sockets.SOFT_BACKLOG_BYTES // 1024} KiB wait in the transport",
        f"{sockets.MAX_BACKLOG_BYTES // 1024} KiB wait at the most",
        f"does not drain within {sockets.WRITE_DEADLINE_S:.0f} s",
        f"more than {sockets.MAX_ERRORS} errors",
        f"{sockets.MAX_QUEUE} messages or",
        f"{views.BOOK_LEVELS} levels a side",
        f"at most {channels.SNAPSHOT_ITEMS}",
        f"all the sockets it takes ({hub.MAX_SOCKETS:,})",
        f"at most\n{1 / hub.FLUSH_INTERVAL_S:.0f} times a second",
    ],
)
def test_limits_are_those_of_the_code(sentence: str) -> None:
    assert sentence in TEXT


def test_client_examples_are_messages() -> None:
    examples = re.findall(r'\{"type":"(?:subscribe|unsubscribe|pong)"[^}…]*\}', TEXT)
    assert len(examples) == 4
    for example in examples:
        protocol.parse(example)


def test_the_books_examples_lead_where_the_text_says() -> None:
    block = next(part for part in TEXT.split("```") if '"type":"snapshot"' in part and '"bids"' in part)
    before, delta = (orjson.loads(part) for part in re.split(r"\n(?=\{)", block.strip()))
    assert delta["prev"] == before["seq"]
    after = protocol.apply_book(before["data"], delta["data"])
    assert (after["bids"], after["asks"]) == ([["0.2600", 1200, "0.0000"]], [["0.2850", 700, "0.0100"]])
