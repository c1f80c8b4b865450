"""The shop's front door: a page for people, /api for programs."""

from __future__ import annotations

import html

from aiohttp import ClientError, web

from mesh.local.shop.web import CLIENT, address_of, make_app, serve

_PAGE = """<!doctype html>
<title>The shop</title>
<h1>The shop</h1>
<p>Catalogue {version}</p>
<ul>
{rows}
</ul>
"""


async def show_page(request: web.Request) -> web.Response:
    try:
        async with request.app[CLIENT].get(f"{address_of('catalogue', 8080)}/items") as answer:
            listing = await answer.json()
    except (ClientError, TimeoutError, ValueError) as error:
        return web.Response(text=f"no catalogue: {error}\n", status=502)
    rows = "\n".join(
        f"<li>{html.escape(item['name'])} {item.get('price_cents', '')}</li>"
        for item in listing["items"]
    )
    page = _PAGE.format(version=html.escape(listing["version"]), rows=rows)
    return web.Response(text=page, content_type="text/html")


async def is_open(request: web.Request) -> web.Response:
    """Whether customers may come: {"open": true} once catalogue and orders are there."""
    client = request.app[CLIENT]
    try:
        async with client.get(f"{address_of('catalogue', 8080)}/items") as answer:
            found = answer.status == 200
        async with client.get(f"{address_of('orders', 8080)}/open") as answer:
            found = found and bool((await answer.json())["open"])
    except (ClientError, TimeoutError, ValueError, KeyError):
        found = False
    return web.json_response({"open": found})


async def pass_on(request: web.Request) -> web.Response:
    """Send /api/items... to catalogue and /api/orders... to orders; answer what they answer."""
    path = request.path.removeprefix("/api")
    service = "catalogue" if path.startswith("/items") else "orders"
    try:
        async with request.app[CLIENT].request(
            request.method, address_of(service, 8080) + path, data=await request.read()
        ) as answer:
            headers = {
                name: value
                for name, value in answer.headers.items()
                if name.lower() in ("x-shop-version", "mesh-reason")
            }
            return web.Response(
                body=await answer.read(),
                status=answer.status,
                headers=headers,
                content_type=answer.content_type,
            )
    except (ClientError, TimeoutError) as error:
        return web.json_response({"error": f"{service}: {error}"}, status=502)


def main() -> None:
    app = make_app()
    app.router.add_get("/", show_page)
    app.router.add_get("/open", is_open)
    app.router.add_route("*", r"/api/{rest:(items|orders).*}", pass_on)
    serve(app)


if __name__ == "__main__":
    main()
