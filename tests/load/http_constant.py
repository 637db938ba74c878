"""The reference of ``bench_http``: the same web server with the same settings, answering a constant."""

from __future__ import annotations

import sys
from typing import Any

BODY = b'{"order":{"id":123456,"status":"open"},"trades":[],"seq":123456}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Read the body and answer."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 201, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})


if __name__ == "__main__":
    from market.config import server

    server.run(host="127.0.0.1", port=int(sys.argv[1]), application="tests.load.http_constant:application")
