"""How many pieces are left, over a line protocol in which the server speaks first.

    < STOCK 1 ready
    > RESERVE tea
    < OK 999

At 0 the shelf is filled again, so that the demonstration never runs dry.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal

_FULL = 1000
_shelf: dict[str, int] = {}


async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        writer.write(b"STOCK 1 ready\n")
        while line := await reader.readline():
            writer.write(_answer(line.decode("utf-8", "replace").split()))
            await writer.drain()
    except (ConnectionError, ValueError):
        logging.info("client went away")
    finally:
        writer.close()


def _answer(words: list[str]) -> bytes:
    if len(words) != 2 or words[0] != "RESERVE":
        return b"ERROR expected RESERVE item\n"
    left = _shelf.get(words[1], _FULL) - 1
    _shelf[words[1]] = left if left > 0 else _FULL
    return f"OK {left}\n".encode()


async def serve() -> None:
    port = int(os.environ.get("PORT", "7000"))
    server = await asyncio.start_server(talk, None, port)
    logging.info("listening on port %d", port)
    stopped = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    await stopped.wait()
    server.close()


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(serve())


if __name__ == "__main__":
    main()
