"""Checks of the cluster itself: can it be reached, is it new enough, do its clocks agree."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from mesh.check.facts import Facts
from mesh.check.model import Category, Check, Fault, Severity
from mesh.core.errors import ApiError
from mesh.kube.client import NO_CREDENTIALS, UNTRUSTED
from mesh.kube.pods import name_of

OLDEST: Final = (1, 25)  # EndpointSlice, Lease and policy kinds in the versions we ask for
MAX_SKEW: Final = 60.0  # seconds; leaves are valid from five minutes back
_NODE_LATE: Final = 300.0  # seconds: a kubelet renews its Lease every ten
_CREDENTIALS: Final = "check the credentials in the kubeconfig; `kubectl version` should work"
_REMEDIES: Final = {  # by reason, where no request reached the API server
    UNTRUSTED: "the kubeconfig's certificate-authority is not the one of this server: fetch the "
    "kubeconfig anew, and look for a proxy between that opens TLS",
    NO_CREDENTIALS: "install the plugin that the kubeconfig names for its user (exec) and put it "
    "into PATH, or log in again; `kubectl version` should work",
}
_NTP = "let NTP (chrony, systemd-timesyncd) set the clock"


def has_access(facts: Facts) -> Iterator[Fault]:
    if facts.access_error:
        yield Fault(
            "",
            facts.access_error,
            "name the file with --kubeconfig or KUBECONFIG, and one of its contexts with "
            "--context; `mesh demo` needs no cluster",
        )


def api_answers(facts: Facts) -> Iterator[Fault]:
    try:
        version = facts.version.value
    except ApiError as error:
        remedy = _REMEDIES.get(error.reason) if error.code == 0 else _CREDENTIALS
        remedy = remedy or "check network, VPN and the server's address in the kubeconfig"
        yield Fault(f"API server {facts.server}", error.message, remedy)
        return
    if "gitVersion" not in version and "major" not in version:
        what = "its /version does not look like Kubernetes"
        yield Fault(f"API server {facts.server}", what, "check the address in the kubeconfig")


def version_is_supported(facts: Facts) -> Iterator[Fault]:
    version = facts.version.value
    found = _parse_version(version)
    if found is None:
        text = f"{version.get('major')}.{version.get('minor')}"
        what = f'its version "{text}" is not understood'
        yield Fault(f"API server {facts.server}", what, "", minor=True)
    elif found < OLDEST:
        wanted, got = (".".join(map(str, pair)) for pair in (OLDEST, found))
        what = f"expected Kubernetes {wanted} or newer, got {got}"
        yield Fault(f"API server {facts.server}", what, "upgrade the cluster")


def _parse_version(version: dict[str, Any]) -> tuple[int, int] | None:
    text = f"{version.get('major')}.{version.get('minor')}"
    match = re.match(r"(\d+)\.(\d+)", text) or re.match(
        r"v?(\d+)\.(\d+)", str(version.get("gitVersion"))
    )
    return (int(match[1]), int(match[2])) if match else None


def our_clock_agrees(facts: Facts) -> Iterator[Fault]:
    skew = facts.skew.value
    if abs(skew.ahead) - skew.within > MAX_SKEW:
        way = "behind" if skew.ahead > 0 else "ahead of"
        what = f"is {abs(skew.ahead):.0f} s {way} the API server's"
        yield Fault("this machine's clock", what, _NTP)


def node_clocks_agree(facts: Facts) -> Iterator[Fault]:
    """By the kubelets' heartbeats: a Lease from the future, or one that is far too old."""
    now = facts.now + (facts.skew.got.ahead if facts.skew.got else 0.0)
    for lease in facts.node_leases.value:
        renewed = parse_time(str((lease.get("spec") or {}).get("renewTime") or ""))
        if renewed is None:
            continue
        node, late = f"node {name_of(lease)}", now - renewed
        if late < -MAX_SKEW:
            yield Fault(node, f"its clock is {-late:.0f} s ahead of the API server's", _NTP)
        elif late > _NODE_LATE:
            what = f"its last heartbeat is {late:.0f} s old: its clock is behind, or it is down"
            yield Fault(node, what, f"`kubectl describe node {name_of(lease)}`; {_NTP}")


def parse_time(text: str) -> float | None:
    """Unix seconds of an RFC 3339 time, None of anything else."""
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None


API: Final = Category(
    "kubernetes-api",
    (
        Check("a kubeconfig says where the cluster is", has_access, Severity.FATAL),
        Check("the API server answers", api_answers, Severity.FATAL, retryable=True),
    ),
)
VERSION: Final = Category(
    "kubernetes-version",
    (Check("the Kubernetes version is supported", version_is_supported),),
)
CLOCKS: Final = Category(
    "clocks",
    (
        Check(
            "this machine and the API server agree on the time", our_clock_agrees, Severity.WARNING
        ),
        Check("nodes and the API server agree on the time", node_clocks_agree, Severity.WARNING),
    ),
)
