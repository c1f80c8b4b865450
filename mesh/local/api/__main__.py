"""The embedded API server alone, on loopback: `python -m mesh.local.api --state DIR --port 0`.

No node, no controllers: what is applied is stored, defaulted, validated and admitted, and
stays as it is. For tests of installers and controllers, without root. Prints the path of a
kubeconfig once it serves, and ends on SIGTERM or Ctrl-C.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from pathlib import Path

import click

from mesh.core.errors import MeshError
from mesh.local.api import app, bootstrap, certs
from mesh.local.api.addresses import ClusterIPs
from mesh.local.api.calls import WebhookCaller
from mesh.local.api.journal import Journal
from mesh.local.api.server import Api
from mesh.local.api.store import Store
from mesh.local.api.tokens import Signer


async def run(state: Path, address: str, port: int, ranges: tuple[str, ...]) -> None:
    """Serve until a signal. Raises MeshError, OSError."""
    listener = socket.create_server((address, port), reuse_port=False)
    host, bound = listener.getsockname()[:2]
    files = certs.ensure(state / "certificates", [host])
    journal = Journal(state / "journal")
    store = Store(journal=journal)
    cluster_ips = ClusterIPs(ranges)
    caller = WebhookCaller(store)
    api = Api(
        store,
        cluster_ips=cluster_ips,
        logs=state / "logs",
        ca=files.ca.read_text(),
        call=caller,
    )
    bootstrap.ensure(store, cluster_ips, port=bound)
    bootstrap.endpoint_slice(store, host, bound)
    application = app.build(api, Signer(certs.load_key(files.tokens_key)))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with app.serve(application, [listener], app.server_context(files)):
        kubeconfig = state / "kubeconfig"
        certs.write_kubeconfig(kubeconfig, files, f"https://{host}:{bound}")
        print(kubeconfig, flush=True)
        await stop.wait()
    await caller.close()
    journal.close()


@click.command()
@click.option("--state", type=click.Path(path_type=Path), required=True, help="Folder to keep.")
@click.option("--address", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=0, show_default=True, help="Port to listen on; 0 takes a free one.")
@click.option(
    "--service-range",
    "ranges",
    multiple=True,
    default=("10.96.0.0/16",),
    show_default=True,
    help="Addresses for Services; once more for the second family.",
)
def main(state: Path, address: str, port: int, ranges: tuple[str, ...]) -> None:
    """Serve the embedded Kubernetes API on loopback.

    Example: python -m mesh.local.api --state /tmp/cluster --port 0
    """
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(run(state, address, port, ranges))
    except (MeshError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
