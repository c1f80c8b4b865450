"""Install values: what `--set`, `-f` and the flags can say, with types, defaults and meaning.

Keys are written in camelCase (`proxy.cpuRequest`). Unknown keys and wrong values are errors,
all reported at once, each with the nearest key that exists. Only what differs from the
defaults is kept in the cluster, so that new defaults reach upgraded installs.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, is_dataclass, replace
from typing import Any, Final, TypeVar, cast

from mesh.core import labels
from mesh.core.errors import ConfigError
from mesh.core.names import is_dns_label
from mesh.core.quantity import parse_duration, parse_quantity
from mesh.inject.annotations import check_text
from mesh.inject.config import DEFAULT_CPU, DEFAULT_IMAGE, DEFAULT_MEMORY
from mesh.install.placement import check_labels, check_tolerations

T = TypeVar("T")
Tree = dict[str, Any]

# What --ha gives where nothing else is said. Spreading and budgets follow from the numbers.
HIGH_AVAILABILITY: Final[Tree] = {
    "controlPlane": {"priorityClassName": labels.PRIORITY_CLASS},
    "identity": {"replicas": "3"},
    "destination": {"replicas": "3"},
    "inject": {"replicas": "3"},
}

_IMAGE = re.compile(r"[a-z0-9][a-zA-Z0-9._/:-]*(@sha256:[0-9a-f]{64})?")
_DOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def _text(text: str) -> str:
    return text


def _namespace(text: str) -> str:
    if not is_dns_label(text):
        raise ValueError(f'expected a namespace (letters, digits and dashes), got "{text}"')
    return text


def _secret(text: str) -> str:
    if text and (not _DOMAIN.fullmatch(text) or len(text) > 253):
        raise ValueError(f'expected the name of a Secret, got "{text}"')
    return text


def _domain(text: str) -> str:
    if not _DOMAIN.fullmatch(text) or len(text) > 200:
        raise ValueError(f'expected a domain such as cluster.local, got "{text}"')
    return text


def _image(text: str) -> str:
    name, _, tag = text.rpartition("/")[2].partition(":")
    if not _IMAGE.fullmatch(text) or not name:
        raise ValueError(f'expected an image such as registry/mesh:1.0, got "{text}"')
    if "@" not in text and tag in ("", "latest"):
        raise ValueError(f'expected an image with a tag other than latest, got "{text}"')
    return text


def _one_of(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(f'expected {" or ".join(allowed)}, got "{text}"')
        return text

    return parse


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f'expected true or false, got "{text}"')
    return text == "true"


def _between(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise ValueError(f'expected a number from {low} to {high}, got "{text}"')
        return int(text)

    return parse


def _quantity(text: str) -> str:
    if text and parse_quantity(text) <= 0:
        raise ValueError(f'expected a quantity above 0, got "{text}"')
    return text


def _lifetime(text: str) -> str:
    if not 60.0 <= parse_duration(text) <= 86_400.0:
        raise ValueError(f'expected a duration from 1m to 24h, got "{text}"')
    return text


def value(default: Any, help: str, parse: Callable[[str], Any] = _text) -> Any:
    """A leaf of the tree of values."""
    return field(default=default, metadata={"help": help, "parse": parse})


def annotated(name: str, default: str | None = None) -> Any:
    """A leaf that is the install-wide default of an annotation of pods."""
    annotation = labels.ANNOTATION_BY_NAME[name]
    return field(
        default=annotation.default if default is None else default,
        metadata={
            "help": annotation.meaning,
            "parse": lambda text: check_text(annotation, text),
            "annotation": name,
        },
    )


@dataclass(frozen=True)
class Crds:
    """Which definitions of kinds are rendered."""

    linkerd: bool = value(True, "ServiceProfile and TrafficSplit of linkerd.io", _boolean)
    smi: bool = value(True, "TrafficSplit and HTTPRouteGroup of smi-spec.io", _boolean)
    gateway: bool = value(False, "routes of the Gateway API, for a cluster without them", _boolean)


@dataclass(frozen=True)
class Role:
    """One Deployment of the control plane."""

    replicas: int = value(1, "number of pods", _between(1, 100))
    cpu_request: str = value("50m", "CPU request", _quantity)
    cpu_limit: str = value("", "CPU limit", _quantity)
    memory_request: str = value("64Mi", "memory request", _quantity)
    memory_limit: str = value("512Mi", "memory limit", _quantity)


@dataclass(frozen=True)
class Identity(Role):
    leaf_lifetime: str = value("24h", "life of a workload's certificate", _lifetime)
    issuer_secret: str = value(
        "", "Secret with tls.crt, tls.key and ca.crt of an issuer of your own; unset: made here"
    )


@dataclass(frozen=True)
class Inject(Role):
    failure_policy: str = value(
        "Ignore",
        "what happens to new pods while the webhook is away: Ignore or Fail",
        _one_of("Ignore", "Fail"),
    )
    timeout_seconds: int = value(5, "how long the API server waits for it", _between(1, 30))


@dataclass(frozen=True)
class ControlPlane:
    """What all three roles share."""

    log_level: str = value(
        "info", "error, warning, info or debug", _one_of("error", "warning", "info", "debug")
    )
    log_format: str = value("text", "text or json", _one_of("text", "json"))
    priority_class_name: str = value("", "priority class of the pods")
    tolerations: str = value(
        "", "taints that the pods tolerate: dedicated=mesh:NoSchedule,spot", check_tolerations
    )
    node_selector: str = value(
        "", "labels of the nodes on which the pods run: pool=system", check_labels
    )
    network_policy: bool = value(False, "NetworkPolicies that admit only our ports", _boolean)


@dataclass(frozen=True)
class Proxy:
    """Defaults of every proxy; annotations of pods and namespaces override them."""

    cpu_request: str = annotated("mesh/proxy-cpu-request", DEFAULT_CPU)
    cpu_limit: str = annotated("mesh/proxy-cpu-limit")
    memory_request: str = annotated("mesh/proxy-memory-request", DEFAULT_MEMORY)
    memory_limit: str = annotated("mesh/proxy-memory-limit")
    image: str = annotated("mesh/proxy-image")
    image_pull_policy: str = annotated("mesh/image-pull-policy", "")
    log_level: str = annotated("mesh/proxy-log-level")
    log_format: str = annotated("mesh/proxy-log-format")
    access_log: str = annotated("mesh/access-log")
    native_sidecar: str = annotated("mesh/native-sidecar")
    proxy_await: str = annotated("mesh/proxy-await")
    skip_inbound_ports: str = annotated("mesh/skip-inbound-ports")
    skip_outbound_ports: str = annotated("mesh/skip-outbound-ports")
    skip_subnets: str = annotated("mesh/skip-subnets")
    opaque_ports: str = annotated("mesh/opaque-ports")
    require_tls: str = annotated("mesh/require-tls")
    connect_timeout: str = annotated("mesh/connect-timeout")
    drain_timeout: str = annotated("mesh/drain-timeout")
    workers: str = annotated("mesh/proxy-workers")
    redirect_mode: str = annotated("mesh/redirect-mode")
    inbound_port: int = value(
        labels.INBOUND_PORT, "port for redirected inbound connections", _between(1024, 65535)
    )
    outbound_port: int = value(
        labels.OUTBOUND_PORT, "port for redirected outbound connections", _between(1024, 65535)
    )
    admin_port: int = value(
        labels.ADMIN_PORT, "port of /metrics, /ready and /probe", _between(1024, 65535)
    )


@dataclass(frozen=True)
class Values:
    """Everything that decides what is rendered; equal values give equal bytes."""

    namespace: str = value(labels.MESH_NAMESPACE, "namespace of the control plane", _namespace)
    image: str = value(DEFAULT_IMAGE, "the one image of all roles and proxies", _image)
    image_pull_policy: str = value(
        "IfNotPresent",
        "Always, IfNotPresent or Never",
        _one_of("Always", "IfNotPresent", "Never"),
    )
    image_pull_secret: str = value(
        "",
        "Secret in the mesh's namespace for its image; meshed pods use those of their own",
        _secret,
    )
    trust_domain: str = value(labels.TRUST_DOMAIN, "trust domain of identities", _domain)
    cluster_domain: str = value(labels.CLUSTER_DOMAIN, "DNS suffix of the cluster", _domain)
    crds: Crds = field(default_factory=Crds)
    control_plane: ControlPlane = field(default_factory=ControlPlane)
    identity: Identity = field(default_factory=Identity)
    destination: Role = field(default_factory=Role)
    inject: Inject = field(default_factory=Inject)
    proxy: Proxy = field(default_factory=Proxy)


@dataclass(frozen=True)
class Described:
    """One leaf for help and documentation: `proxy.cpuRequest`."""

    key: str
    default: str
    help: str


def faults_of(tree: Mapping[str, Any]) -> list[str]:
    """What is wrong with the keys and values of one tree, each by itself."""
    problems: list[str] = []
    _overlay(Values(), tree, "", problems)
    return problems


def build_values(*trees: Mapping[str, Any]) -> Values:
    """Defaults overlaid by each tree in turn. Raises ConfigError that lists every fault."""
    problems: list[str] = []
    values = Values()
    for tree in trees:
        values = _overlay(values, tree, "", problems)
    ports = (values.proxy.inbound_port, values.proxy.outbound_port, values.proxy.admin_port)
    if len(set(ports)) < len(ports):
        problems.append(
            "proxy.inboundPort, proxy.outboundPort and proxy.adminPort: expected three different "
            f"ports, got {', '.join(map(str, ports))}"
        )
    if problems:
        raise ConfigError(problems)
    return values


def parse_assignments(items: Sequence[str]) -> Tree:
    """`a.b=c` texts as one tree; later ones win. Raises ConfigError."""
    tree: Tree = {}
    problems = []
    for item in items:
        path, equals, text = item.partition("=")
        steps = path.strip().split(".")
        if not equals or not all(steps):
            problems.append(f'expected key=value such as proxy.logLevel=debug, got "{item}"')
            continue
        branch = tree
        for step in steps[:-1]:
            inner = branch.setdefault(step, {})
            if not isinstance(inner, dict):
                inner = branch[step] = {}
            branch = inner
        branch[steps[-1]] = text
    if problems:
        raise ConfigError(problems)
    return tree


def merge_trees(base: Tree, over: Mapping[str, Any]) -> Tree:
    """A new tree: `over` wins leaf by leaf."""
    result = dict(base)
    for key, inner in over.items():
        old = result.get(key)
        both = isinstance(old, dict) and isinstance(inner, Mapping)
        result[key] = merge_trees(cast(Tree, old), inner) if both else inner
    return result


def changed_values(values: Values) -> Tree:
    """The tree of what differs from the defaults, in the order of the fields."""
    return _difference(values, Values())


def describe_values() -> list[Described]:
    """Every leaf, in order."""
    return list(_leaves(Values(), ""))


def key_of(name: str) -> str:
    """The camelCase key of a field."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _overlay(node: T, tree: Mapping[str, Any], path: str, problems: list[str]) -> T:
    known = {key_of(item.name): item for item in fields(cast(Any, node))}
    changes: dict[str, Any] = {}
    for key, given in tree.items():
        item = known.get(str(key))
        if item is None:
            problems.append(_unknown(path, str(key)))
            continue
        current = getattr(node, item.name)
        if not is_dataclass(current):
            _parse_leaf(item, given, f"{path}{key}", changes, problems)
        elif isinstance(given, Mapping):
            changes[item.name] = _overlay(current, given, f"{path}{key}.", problems)
        elif given is not None:
            problems.append(f'{path}{key}: expected keys below it, got "{given}"')
    return cast(T, replace(cast(Any, node), **changes))


def _parse_leaf(
    item: Field[Any], given: Any, path: str, changes: dict[str, Any], problems: list[str]
) -> None:
    if isinstance(given, (Mapping, list)):
        problems.append(f"{path}: expected one value, got {type(given).__name__}")
        return
    text = {True: "true", False: "false", None: ""}.get(given, given) if _plain(given) else given
    try:
        changes[item.name] = item.metadata["parse"](str(text))
    except ValueError as error:
        problems.append(f"{path}: {error}")


def _plain(given: Any) -> bool:
    return given is None or isinstance(given, bool)


def _unknown(path: str, key: str) -> str:
    every = [leaf.key for leaf in describe_values()]
    every += list({leaf.rpartition(".")[0] for leaf in every} - {""})
    near = difflib.get_close_matches(f"{path}{key}", sorted(every), n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else "mesh install --help-values lists all keys"
    return f"{path}{key}: no such value; {hint}"


def _difference(node: Any, default: Any) -> Tree:
    tree: Tree = {}
    for item in fields(node):
        mine, other = getattr(node, item.name), getattr(default, item.name)
        if is_dataclass(mine):
            inner = _difference(mine, other)
            if inner:
                tree[key_of(item.name)] = inner
        elif mine != other:
            tree[key_of(item.name)] = mine
    return tree


def _leaves(node: Any, path: str) -> Iterator[Described]:
    for item in fields(node):
        current, key = getattr(node, item.name), f"{path}{key_of(item.name)}"
        if is_dataclass(current):
            yield from _leaves(current, f"{key}.")
        else:
            shown = str(current).lower() if isinstance(current, bool) else str(current)
            yield Described(key, shown, item.metadata["help"])
