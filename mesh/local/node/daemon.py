"""The node's daemon: API server, controllers, kubelet, Service table and name server in one loop.

`python -m mesh.local.node.daemon CONFIG`, started by PID 1 inside the node's namespaces. It
writes {"ready": true} or {"error": ...} to the pipe `ready`, and serves until SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import logging.handlers
import os
import signal
import socket
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from mesh.core.errors import MeshError
from mesh.local.api import app, bootstrap, certs, tokens
from mesh.local.api.addresses import ClusterIPs
from mesh.local.api.calls import WebhookCaller
from mesh.local.api.journal import Journal
from mesh.local.api.server import Api
from mesh.local.api.store import Store
from mesh.local.controllers.cronjobs import CronJobs
from mesh.local.controllers.daemonsets import DaemonSets
from mesh.local.controllers.deployments import Deployments
from mesh.local.controllers.endpoints import Endpoints
from mesh.local.controllers.garbage import Garbage
from mesh.local.controllers.jobs import Jobs
from mesh.local.controllers.quotas import Quotas
from mesh.local.controllers.replicasets import ReplicaSets
from mesh.local.controllers.statefulsets import StatefulSets
from mesh.local.node import record, rootfs
from mesh.local.node.context import NODE_NAME, Node
from mesh.local.node.dns import NameServer
from mesh.local.node.events import Recorder, expire
from mesh.local.node.kubelet import Kubelet, node_labels
from mesh.local.node.ranges import API_PORT, Addresses, Ranges
from mesh.local.node.renumber import renumber
from mesh.local.node.services import Proxy
from mesh.local.node.spawn import Spawner

Object = dict[str, Any]
_GOODBYE = 0.5  # seconds that open requests get at the end
FIRST_POD = 257  # the pod range begins with the node's and the machine's own addresses

log = logging.getLogger("mesh.local")


class Daemon:
    """Everything that runs in the node, wired once. Belongs to one event loop."""

    def __init__(self, config: Object) -> None:
        self.state = Path(config["state"])
        self.ranges = Ranges(**config["ranges"])
        self.files = certs.ensure(self.state / "certificates", self._addresses())
        self.journal = Journal(self.state / "journal")
        self.store = Store(journal=self.journal)
        self.webhooks = WebhookCaller(self.store)
        services = [cidr for cidr in (self.ranges.services, self.ranges.services6) if cidr]
        cluster_ips = ClusterIPs(services)
        logs = self.state / "logs"
        self.api = Api(
            self.store,
            cluster_ips=cluster_ips,
            logs=logs,
            ca=self.files.ca.read_text(),
            call=self.webhooks,
        )
        bootstrap.ensure(self.store, cluster_ips, port=API_PORT)
        renumber(self.store, cluster_ips)
        bootstrap.endpoint_slice(self.store, self.ranges.node, API_PORT)
        self.signer = tokens.Signer(certs.load_key(self.files.tokens_key))
        control = socket.socket(fileno=int(config["control"]))
        control.set_inheritable(False)
        pods6 = self.ranges.pods6
        self.node = Node(
            api=self.api,
            spawner=Spawner(control),
            recorder=Recorder(self.store, "kubelet", NODE_NAME),
            issue_token=self._issue,
            ranges=self.ranges,
            pod_addresses=Addresses(self.ranges.pods, first=FIRST_POD),
            pod_addresses6=Addresses(pods6, first=FIRST_POD) if pods6 else None,
            python=rootfs.Python(**config["python"]),
            mounts=tuple(rootfs.parse_mountinfo(config["mountinfo"])),
            run=self.state / "run",
            logs=logs,
            images=config.get("images") or {},
        )

        self.proxy = Proxy(self.store, self.ranges, self.node.host_addresses)

    def _addresses(self) -> list[str]:
        ranges = self.ranges
        found = (ranges.node, ranges.node6, ranges.api, ranges.host("services6", 1), "127.0.0.1")
        return [address for address in found if address]

    async def _issue(self, pod: Object, audience: str, seconds: int) -> str:
        """A token for the pod's service account, bound to the pod. Raises ApiError 404."""
        meta = pod["metadata"]
        name = pod["spec"].get("serviceAccountName") or "default"
        account = self.store.get("serviceaccounts", meta["namespace"], name)
        binding = tokens.Binding("Pod", meta["name"], meta["uid"], NODE_NAME)
        audiences = [audience] if audience else [tokens.ISSUER]
        return self.signer.issue(account, audiences, seconds, binding)[0]

    def parts(self) -> list[Coroutine[Any, Any, None]]:
        """Everything that runs until it is cancelled, but for the API server."""
        labels = node_labels(NODE_NAME)
        controllers = Recorder(self.store, "deployment-controller")
        names = NameServer(self.store, self.node.domain)
        addresses = [address for address in (self.ranges.dns, self.ranges.dns6) if address]
        return [
            self.proxy.run(),
            names.run(addresses),
            Kubelet(self.node).run(),
            Deployments(self.api, controllers).run(),
            ReplicaSets(self.api, controllers.named("replicaset-controller")).run(),
            StatefulSets(self.api, controllers.named("statefulset-controller")).run(),
            DaemonSets(self.api, controllers.named("daemonset-controller"), NODE_NAME).run(),
            Jobs(self.api, controllers.named("job-controller")).run(),
            CronJobs(self.api, controllers.named("cronjob-controller")).run(),
            Endpoints(self.api, labels["topology.kubernetes.io/zone"]).run(),
            Quotas(self.api).run(),
            Garbage(self.api).run(),
            expire(self.store),
        ]

    def _listeners(self) -> list[socket.socket]:
        """The API server's sockets: on the node's addresses, which the machine reaches."""
        return [
            socket.create_server(
                (address, API_PORT),
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                backlog=512,
            )
            for address in self.node.host_addresses
        ]

    async def run(self, ready: int) -> None:
        """Serve until SIGTERM."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        application = app.build(self.api, self.signer)
        serving = app.serve(application, self._listeners(), app.server_context(self.files))
        done: set[asyncio.Task[Any]] = set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None) as limit, serving:
                self._announce(ready)
                tasks: list[asyncio.Task[Any]] = [loop.create_task(part) for part in self.parts()]
                tasks.append(loop.create_task(stop.wait()))
                done, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                limit.reschedule(loop.time() + _GOODBYE)
                for task in left:
                    task.cancel()
                await asyncio.wait(left)
        self.journal.close()
        for task in done:
            task.result()

    def _announce(self, ready: int) -> None:
        """Say where the API server is, and that it serves. Raises OSError."""
        url = f"https://{self.ranges.node}:{API_PORT}"
        certs.write_kubeconfig(self.state / "kubeconfig", self.files, url)
        record.ready(self.state)
        _tell(ready, ready=True)


def _tell(fd: int, **fields: Any) -> None:
    with contextlib.suppress(OSError):
        os.write(fd, json.dumps(fields).encode() + b"\n")


def _log_to(path: Path) -> None:
    logging.raiseExceptions = False  # a full disk costs log lines, nothing else
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=4 << 20, backupCount=1)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


async def _main(config: Object) -> None:
    ready = int(config["ready"])
    try:
        daemon = Daemon(config)
        await daemon.proxy.apply()
        await daemon.run(ready)
    except (MeshError, OSError) as error:
        _tell(ready, error=f"the daemon has failed: {error}")
        raise


def main() -> int:
    """Exit code 0 after SIGTERM, 1 after a failure, which the log tells."""
    config = json.loads(sys.argv[1])
    os.set_inheritable(int(config["ready"]), False)
    _log_to(Path(config["state"]) / "daemon.log")
    try:
        asyncio.run(_main(config))
    except Exception:
        log.exception("daemon failed")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
