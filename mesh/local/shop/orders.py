"""Takes orders: looks the item up in the catalogue and reserves it over TCP in stock."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os

from aiohttp import ClientError, web

from mesh.local.shop.web import CLIENT, address_of, make_app, serve

_numbers = itertools.count(1)
_orders: dict[int, dict[str, object]] = {}
_KEPT = 1000  # newest orders only; this is a demonstration


async def place_order(request: web.Request) -> web.Response:
    try:
        item = str((await request.json())["item"])
    except (ValueError, KeyError, TypeError):
        return web.json_response({"error": 'expected {"item": "tea"}'}, status=400)
    try:
        url = f"{address_of('catalogue', 8080)}/items/{item}"
        async with request.app[CLIENT].get(url) as answer:
            if answer.status != 200:
                logging.warning("catalogue said %d %s", answer.status, answer.headers)
                return web.json_response({"error": await answer.text()}, status=answer.status)
            found = await answer.json()
        left = await reserve(item)
    except (ClientError, OSError, TimeoutError, ValueError) as error:
        logging.warning("order of %.20s failed: %r", item, error)
        return web.json_response({"error": f"{type(error).__name__}: {error}"}, status=502)
    number = next(_numbers)
    _orders[number] = {"order": number, "item": found, "left": left}
    _orders.pop(number - _KEPT, None)
    return web.json_response(_orders[number], status=201)


async def show_order(request: web.Request) -> web.Response:
    order = _orders.get(int(request.match_info["number"]))
    if order is None:
        return web.json_response({"error": "no such order"}, status=404)
    return web.json_response(order)


async def is_open(request: web.Request) -> web.Response:
    """Whether an order could be placed now: stock answers."""
    try:
        greeting = await _talk_to_stock("")
    except (OSError, TimeoutError):
        greeting = []
    return web.json_response({"open": greeting[:1] == ["STOCK"]})


async def reserve(item: str) -> int:
    """One piece of `item` from stock; how many are left. Raises ValueError on a refusal."""
    answer = await _talk_to_stock(f"RESERVE {item}\n")
    if answer[:1] != ["OK"]:
        raise ValueError(f"stock answered {' '.join(answer) or 'nothing'}")
    return int(answer[1])


async def _talk_to_stock(line: str) -> list[str]:
    """The words of stock's answer to `line`; of its greeting when there is nothing to say."""
    host, _, port = os.environ.get("STOCK_ADDRESS", "stock:7000").rpartition(":")
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            words = await reader.readline()  # stock speaks first
            if line:
                writer.write(line.encode())
                words = await reader.readline()
        finally:
            writer.close()
    return words.decode().split()


def main() -> None:
    app = make_app()
    app.router.add_get("/open", is_open)
    app.router.add_post("/orders", place_order)
    app.router.add_get(r"/orders/{number:\d+}", show_order)
    serve(app)


if __name__ == "__main__":
    main()
