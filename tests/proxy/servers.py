"""Servers that are not ours, on Unix sockets: each answers what it has understood.

The body of an answer is `METHOD TARGET BYTES`; nginx does not say how many bytes it read.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web

NGINX: Final = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin")
_CONFIG: Final = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections 512; }}
http {{
  log_format told "$status $request_method $request_uri"; access_log {folder}/told told;
  client_body_temp_path {folder}; keepalive_requests 100000;
  proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder};
  scgi_temp_path {folder}; large_client_header_buffers 8 64k; client_body_timeout 5s;
  server {{
    listen unix:{folder}/http1.sock;
    listen unix:{folder}/http2.sock http2;
    location / {{ return 200 "$request_method $request_uri\\n"; }}
  }}
}}
"""


async def connectable(path: Path) -> None:
    """Wait until somebody listens there."""
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_unix_connection(str(path))
                writer.close()
                return
            await asyncio.sleep(0.01)


@dataclass
class Running:
    """A server: its sockets for HTTP/1 and HTTP/2, and the file in which it tells what it served,
    a line `STATUS METHOD TARGET` each."""

    http1: Path
    http2: Path
    told: Path
    _heard: int = 0  # lines of the file that were taken

    async def served(self, last: str) -> list[str]:
        """What was served since this was asked last. It waits until `last` is told: a server may
        answer first and tell later."""
        async with asyncio.timeout(10):
            while last not in (told := self.told.read_text().splitlines()[self._heard :]):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        self._heard += len(told)
        return [line.removeprefix("200 ") for line in told if line.startswith("200 ")]


@contextlib.asynccontextmanager
async def nginx(folder: Path) -> AsyncIterator[Running]:
    """Debian's nginx."""
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(folder=folder))
    assert NGINX is not None
    command = [NGINX, "-p", str(folder), "-c", str(config), "-e", str(folder / "error.log")]
    process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.DEVNULL)
    try:
        await connectable(folder / "http2.sock")
        yield Running(folder / "http1.sock", folder / "http2.sock", folder / "told")
    finally:
        process.terminate()
        await process.wait()


async def _tell(request: web.BaseRequest) -> web.Response:
    size = len(await request.read())
    return web.Response(text=f"{request.method} {request.raw_path} {size}\n")


@contextlib.asynccontextmanager
async def aiohttp(folder: Path) -> AsyncIterator[Path]:
    """aiohttp's server; its socket for HTTP/1."""
    runner = web.ServerRunner(web.Server(_tell))
    await runner.setup()
    path = folder / "aiohttp.sock"
    await web.UnixSite(runner, str(path)).start()
    try:
        yield path
    finally:
        await runner.cleanup()
