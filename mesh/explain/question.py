"""What a person asks -> method, host, port, head; and the Service that a host means. Pure."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from destination.facts import Key, Pod
from destination.snapshot import Snapshot
from destination.store import Store
from mesh.core.errors import ConfigError, MeshError
from mesh.core.labels import H_OVERRIDE
from proxy.guard import is_ours
from proxy.heads import RequestHead
from proxy.http1 import COLON, CRLF, Request

_METHOD: Final = re.compile(r"[A-Z][A-Z0-9_-]{0,30}")
_HEADER: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*:\s*([^\r\n\x00]*)")
_EXAMPLE: Final = "for example `mesh explain -f . GET http://orders:8080/api/1`"
_MOST_ALIASES: Final = 8  # ExternalNames that lead to one another
_KINDS: Final = {
    "deploy": "deployment", "deployments": "deployment", "sts": "statefulset",
    "statefulsets": "statefulset", "ds": "daemonset", "daemonsets": "daemonset",
    "po": "pod", "pods": "pod", "rs": "replicaset", "cj": "cronjob",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Question:
    """One request as its application would send it. `target` is path and query; `named` a Host
    of its own, which names another server than the one that is dialled."""

    method: str
    url: str
    host: str
    port: int
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    encrypted: bool = False  # https: the proxy sees only bytes
    named: str = ""

    @property
    def server_name(self) -> str:
        """What the ClientHello of an encrypted connection carries; "" for an address, which is
        no server name (RFC 6066 §3)."""
        name = self.named.partition(":")[0] or self.host
        return "" if not self.encrypted or is_address(name) else name

    @property
    def override(self) -> str:
        """The Service port that an ingress controller asks for in a header, else ""."""
        wanted = H_OVERRIDE.decode()
        values = [value for name, value in self.headers if name.lower() == wanted]
        return values[-1].strip().lower() if values else ""

    def names(self, workload: str) -> tuple[str, ...]:
        """The words by which manifests that matter can be found; none where only all will do."""
        hosts = (self.override or self.host).lower(), workload.rpartition("/")[2]
        words = tuple(host.partition(".")[0] for host in hosts if host)
        return () if is_address(self.host) else words

    def head(self) -> RequestHead:
        """The head as the proxy's own parser would give it to the evaluator."""
        return RequestHead(self.request())

    def request(self) -> Request:
        """The request as the proxy's own parser would give it to filters."""
        fields: list[bytes] = []
        host = self.named or self.host
        for name, value in (("Host", host), *self.headers):
            key = name.encode("latin-1")
            if not is_ours(key):  # the client's proxy takes these away, whoever wrote them
                fields += (key, COLON, value.encode("latin-1", "replace"), CRLF)
        target = self.target.encode("latin-1", "replace")
        request = Request(self.method.encode(), target, fields)
        request.host = host.encode("latin-1", "replace")
        return request


def parse_question(method: str, url: str, headers: Sequence[str]) -> Question:
    """Raises ConfigError with every fault of what was asked."""
    faults = []
    if not _METHOD.fullmatch(method):
        faults.append(f'expected a method such as GET, got "{method[:60]}"; {_EXAMPLE}')
    pairs = []
    for text in headers:
        match = _HEADER.fullmatch(text)
        if match is None:
            faults.append(f"expected a header such as 'x-canary: true', got \"{text[:60]}\"")
        else:
            pairs.append((match[1], match[2].strip()))
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError([*faults, f'"{url[:80]}" is no URL: {error}; {_EXAMPLE}']) from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        faults.append(f'expected a URL with http:// and a host, got "{url[:80]}"; {_EXAMPLE}')
    if faults:
        raise ConfigError(faults)
    is_https = parts.scheme == "https"
    named = [value for name, value in pairs if name.lower() == "host"]
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Question(
        method=method,
        url=url,
        host=str(parts.hostname).rstrip("."),
        port=port or (443 if is_https else 80),
        target=target,
        headers=tuple(pair for pair in pairs if pair[0].lower() != "host"),
        encrypted=is_https,
        named=named[-1] if named else "",
    )


@dataclass(frozen=True, slots=True)
class Asker:
    """Who sends the request: a namespace, and the workload and pod where one was named."""

    namespace: str
    workload: str = ""
    pod: Pod | None = None
    is_ingress: bool = False  # its requests choose their Service by a header


def find_asker(store: Store, workload: str, namespace: str | None) -> Asker:
    """The client that `--from` and `-n` mean. Raises MeshError."""
    if not workload:
        return Asker(namespace or _only_namespace(store))
    kind, slash, name = workload.partition("/")
    wanted = f"{_KINDS.get(kind.lower(), kind.lower())}/{name}" if slash else f"deployment/{kind}"
    pods = [store.effective_pod(key) for key in sorted(store.pods)]
    known = [pod for pod in pods if pod is not None and namespace in (None, pod.namespace)]
    found = [pod for pod in known if wanted in (pod.workload, f"pod/{pod.name}")]
    homes = sorted({pod.namespace for pod in found})
    if len(homes) == 1:
        alive = [pod for pod in found if pod.running and not pod.leaving] or found
        return Asker(homes[0], wanted, alive[0])
    if homes:
        raise MeshError(f"{wanted} is in namespaces {', '.join(homes)}; choose one with -n")
    where = f"in namespace {namespace}" if namespace else "in any namespace"
    near = difflib.get_close_matches(wanted, {pod.workload for pod in known}, n=1)
    hint = f"did you mean --from {near[0]}?" if near else _listed({pod.workload for pod in known})
    raise MeshError(f"no pods of {wanted} {where}; {hint}")


def find_service(store: Store, snapshot: Snapshot, host: str, namespace: str) -> Key | None:
    """The Service that a host means to clients of a namespace; None: an address or name of
    something else. Raises MeshError for a name that can only be a mistake."""
    if is_address(host):
        return snapshot.cluster_ips.get(host)
    name, short = host.lower(), _short(store, host)
    _, dot, home = short.partition(".")
    key = _key_of(store, host, namespace)
    if key in store.services:
        return key
    is_ours = short != name or not dot or home in {item[0] for item in store.services}
    near = _nearest(store, short, namespace)
    if not is_ours and not near:
        return None  # a name of the world outside
    hint = f"did you mean {near}?" if near else _services_of(store, key[0])
    raise MeshError(f'no Service {key[0]}/{key[1]} for host "{host}"; {hint}')


def resolve_host(store: Store, host: str, namespace: str) -> tuple[str, tuple[str, ...]]:
    """What DNS makes of a host, as far as it stays in the cluster, and notes on the way: an
    ExternalName that means a Service here is that Service, a name such as `db-0.db` below a
    headless Service the address of that pod. Raises MeshError for a pod that is not there."""
    notes: list[str] = []
    while len(notes) < _MOST_ALIASES:
        key = _key_of(store, host, namespace)
        facts = store.services.get(key)
        alias = facts.external_name.rstrip(".").lower() if facts is not None else ""
        is_ours = alias.endswith(f".svc.{store.cluster_domain}")
        note = f"Service {key[0]}/{key[1]} is an ExternalName: its name means {alias}"
        if not is_ours or _key_of(store, alias, "") not in store.services or note in notes:
            break
        notes.append(note)
        host = alias
    address = _pod_address(store, host, namespace)
    if address:
        notes.append(f"{host} is the name of a pod: dialled at {address}")
    return address or host, tuple(notes)


def _key_of(store: Store, host: str, namespace: str) -> Key:
    service, dot, home = _short(store, host).partition(".")
    return (home if dot else namespace, service)


def _short(store: Store, host: str) -> str:
    return host.lower().removesuffix(f".svc.{store.cluster_domain}").removesuffix(".svc")


def _pod_address(store: Store, host: str, namespace: str) -> str:
    """The address of `pod.service[.namespace]` below a headless Service, else ""."""
    name, dot, rest = _short(store, host).partition(".")
    if is_address(host) or not dot or (rest, name) in store.services:
        return ""
    service, dot, home = rest.partition(".")
    facts = store.services.get((home if dot else namespace, service))
    if facts is None or not facts.headless:
        return ""
    pod = store.effective_pod((facts.namespace, name))
    if pod is None or not pod.ips:
        where = f"Service {facts.namespace}/{facts.name}"
        raise MeshError(f"no pod {name} below headless {where}; give the name of one of its pods")
    return pod.ips[0]


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _nearest(store: Store, short: str, namespace: str) -> str:
    """The name that was probably meant, as this client would write it."""
    own = [name for home, name in store.services if home == namespace]
    full = sorted(f"{name}.{home}" for home, name in store.services)
    if "." in short:
        return next(iter(difflib.get_close_matches(short, full, n=1, cutoff=0.8)), "")
    elsewhere = [name for name in full if name.startswith(f"{short}.")]
    return next(iter([*elsewhere, *difflib.get_close_matches(short, own, n=1)]), "")


def _services_of(store: Store, namespace: str) -> str:
    names = sorted(name for home, name in store.services if home == namespace)
    if names:
        return f"namespace {namespace} has {', '.join(names[:10])}"
    homes = sorted({home for home, _ in store.services})
    return f"namespace {namespace} has no Services; {_listed(set(homes), 'namespaces with some: ')}"


def _listed(names: set[str], lead: str = "there are ") -> str:
    shown = ", ".join(sorted(names)[:10])
    return f"{lead}{shown}" if shown else "there is nothing to ask about; check -n, or -f"


def _only_namespace(store: Store) -> str:
    homes = {home for home, _ in store.services}
    return homes.pop() if len(homes) == 1 else "default"
