"""What stands in for the control plane in tests and benchmarks: a view that is written by
hand, credentials from files. Imports no more than the proxy itself does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mesh.core.model import Inbound, Service, Target, Update, View
from mesh.core.report import Report
from mesh.runtime.tls import FilePath
from proxy.settings import Settings
from proxy.worker import SharedCredentials

CLUSTER_IP = "10.96.0.10:80"
WEB = "web.shop.svc.cluster.local:80"


class FakeDiscovery:
    """A view that the test writes."""

    def __init__(self) -> None:
        self.view = View()
        self.ready = True
        self.last_reason = ""
        self.failures: list[tuple[str, str, str]] = []
        self.reports: list[Report] = []
        self.is_away = False  # nobody answers look-ups
        self._callbacks: list[Callable[[View, Update], None]] = []

    def lookup(self, address: str, done: Callable[[Target | None], None]) -> None:
        if self.is_away:
            done(None)
        else:
            done(self.view.targets.get(address, Target(address)))

    def service(self, authority: str) -> Service | None:
        return self.view.services.get(authority)

    def on_change(self, callback: Callable[[View, Update], None]) -> None:
        self._callbacks.append(callback)

    def keep(self, in_use: Callable[[str], bool]) -> None:
        self.in_use = in_use

    def on_ask(self, answer: Callable[..., None]) -> None:
        self.ask = answer

    def connect_failed(self, address: str, authority: str, reason: str) -> None:
        self.failures.append((address, authority, reason))

    def send_report(self, report: Report) -> None:
        self.reports.append(report)

    def update(
        self,
        *targets: Target,
        services: Sequence[Service] = (),
        inbound: Inbound | None = None,
        app_done: bool | None = None,
    ) -> None:
        """Change the view as destination would."""
        update = Update(
            self.view.version + 1,
            targets={target.address: target for target in targets},
            services={service.authority: service for service in services},
            inbound=inbound,
            app_done=app_done,
        )
        self.view = self.view.apply(update)
        for callback in self._callbacks:
            callback(self.view, update)


class StaticCredentials(SharedCredentials):
    """One leaf and one bundle, until `replace`."""

    def __init__(self, identity: str, bundle: str, leaf: FilePath, not_after: float) -> None:
        super().__init__(identity, leaf)
        self.change(bundle, not_after)

    def replace(self, leaf: FilePath) -> None:
        """Put another leaf in force, as a renewal does."""
        self._leaf = leaf
        self.change(self.bundle, self.not_after)


def settings(**changes: Any) -> Settings:
    """Settings of a pod on loopback with free ports."""
    values: dict[str, Any] = {
        "pod_name": "web-1",
        "pod_namespace": "shop",
        "pod_uid": "uid-1",
        "pod_ips": (),
        "node_name": "node",
        "service_account": "web",
        "mesh_namespace": "mesh",
        "trust_domain": "cluster.local",
        "cluster_domain": "cluster.local",
        "trust_bundle": "",
        "identity_address": ("127.0.0.1", 1),
        "destination_address": ("127.0.0.1", 1),
        "token_file": "",
        "key_dir": "",
        "state_dir": "",
        "outbound_port": 0,
        "inbound_port": 0,
        "admin_port": 0,
        "opaque_ports": (),
        "require_tls": False,
        "ingress": False,
        "probes": frozenset(),
        "connect_timeout": 10.0,  # a busy machine may need more than the second of a real proxy
        "drain_timeout": 5.0,
        "workers": 1,
        "native_sidecar": True,
        "log_level": "info",
        "log_format": "text",
        "access_log": "off",
    }
    return Settings(**{**values, **changes})
