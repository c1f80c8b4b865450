"""What the shop sells. $VERSION v2 answers with prices, v1 without."""

from __future__ import annotations

import os

from aiohttp import web

from mesh.local.shop.web import make_app, serve

ITEMS = {
    "tea": ("Green tea", 420),
    "mug": ("Blue mug", 890),
    "pen": ("Fountain pen", 2350),
    "map": ("Harbour map", 1500),
}
VERSION = os.environ.get("VERSION", "v1")


def _item(key: str) -> dict[str, object]:
    name, cents = ITEMS[key]
    item: dict[str, object] = {"id": key, "name": name}
    if VERSION != "v1":
        item["price_cents"] = cents
    return item


async def list_items(request: web.Request) -> web.Response:
    body = {"version": VERSION, "items": [_item(key) for key in ITEMS]}
    return web.json_response(body, headers={"x-shop-version": VERSION})


async def show_item(request: web.Request) -> web.Response:
    key = request.match_info["id"]
    if key not in ITEMS:
        return web.json_response({"error": f"no item {key!r}"}, status=404)
    return web.json_response(_item(key), headers={"x-shop-version": VERSION})


def main() -> None:
    app = make_app()
    app.router.add_get("/items", list_items)
    app.router.add_get("/items/{id}", show_item)
    serve(app)


if __name__ == "__main__":
    main()
