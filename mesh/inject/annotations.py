"""The annotations of a pod and its namespace -> one checked text per annotation of the table.

Pod wins over namespace, namespace over install values; our own name wins over an alias.
Whatever is not understood falls back to the next place and leaves a warning, and so does a
key with one of our prefixes that no table knows. Texts come out in the form that settings of
`init` and `proxy` parse.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from init.settings import parse_subnets
from mesh.core import labels
from mesh.core.quantity import (
    parse_duration,
    parse_ports,
    parse_quantity,
    parse_switch,
    print_ports,
)
from mesh.inject.config import InjectConfig
from mesh.inject.switch import INGRESS, family_of
from proxy.settings import parse_workers

# Keys that a mesh writes itself: they say nothing to us and are no misspelling.
WRITTEN: Final = frozenset(
    {
        labels.L_COMPONENT,
        labels.L_CONTROL_NAMESPACE,
        labels.L_WORKLOAD_KIND,
        labels.L_WORKLOAD_NAME,
        labels.A_PROXY_VERSION,
        labels.A_CREATED_BY,
        labels.A_TRUST_HASH,
        labels.A_REWRITTEN_PROBES,
        "linkerd.io/created-by",
        "linkerd.io/proxy-version",
        "linkerd.io/trust-root-sha256",
        "linkerd.io/control-plane-ns",
        "linkerd.io/workload-ns",
        "linkerd.io/is-control-plane",
        "linkerd.io/extension",
    }
)
# Annotations of Services and routes that people put on namespaces as well.
ELSEWHERE: Final = frozenset({"mesh/route-api", "mesh/implicit-subsets", labels.A_REFERENCE_GRANTS})
_SYNONYMS: Final = {"plain": "text", "apache": "text"}
_IMAGE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._/:@-]{0,254}")
_FOREIGN_IMAGE = re.compile(r"linkerd|istio|envoy|proxyv2")
_LEVELS: Final = {"warn": "warning", "trace": "debug", "off": "error"}
_LONGEST = 2048  # characters of a value: every pod of a workload pays for reading it
_SHOWN = 60  # characters of a foreign value in a message
_SWITCHES: Final = (labels.A_INJECT, "linkerd.io/inject")


@dataclass(frozen=True)
class Resolved:
    """`texts` has one entry for each annotation of the table ("" where nothing is set)."""

    texts: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    is_ingress: bool = False

    def __getitem__(self, name: str) -> str:
        return self.texts[name]


def resolve(
    pod: Mapping[str, str],
    namespace: Mapping[str, str],
    config: InjectConfig,
    *,
    port_names: Mapping[str, int] | None = None,
    foreign: frozenset[str] = frozenset(),
) -> Resolved:
    """Resolve every annotation but the switch, which `mesh.inject.switch` decides.

    `port_names` are the pod's named container ports, which port lists may use.
    """
    texts: dict[str, str] = {}
    warnings = list(_misspelt(pod, "")) + list(_misspelt(namespace, "namespace "))
    for annotation in labels.ANNOTATIONS:
        if annotation.name == labels.A_INJECT:
            continue
        parse = _PARSERS[annotation.kind]
        texts[annotation.name] = config.default_of(annotation)
        for where, keys in (("", pod), ("namespace ", namespace)):
            name = _name_in(annotation, keys, foreign)
            if name is None or (where and not annotation.namespace):
                continue
            try:
                if len(keys[name]) > _LONGEST:
                    raise ValueError(f"expected at most {_LONGEST} characters")
                texts[annotation.name] = parse(keys[name].strip(), annotation, port_names or {})
                break
            except ValueError as error:
                warnings.append(f"{where}annotation {name}: {error}; ignored")
    is_ingress = any(keys.get(name) == INGRESS for keys in (pod, namespace) for name in _SWITCHES)
    warnings += _order_limits(texts)
    return Resolved(texts, tuple(warnings), is_ingress)


def check_text(annotation: labels.Annotation, text: str) -> str:
    """One value in its canonical form, as install values need it. Raises ValueError."""
    return _PARSERS[annotation.kind](text, annotation, {}) if text else ""


def _name_in(
    annotation: labels.Annotation, keys: Mapping[str, str], foreign: frozenset[str]
) -> str | None:
    for name in (annotation.name, *annotation.aliases):
        if name in keys and family_of(name) not in foreign:
            return name
    return None


def _misspelt(keys: Mapping[str, str], where: str) -> Iterator[str]:
    known = labels.ANNOTATION_BY_NAME
    for key in sorted(keys):
        if not key.startswith(labels.OUR_PREFIXES) or key in known or key in WRITTEN | ELSEWHERE:
            continue
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.7)
        hint = f"did you mean {near[0]}?" if near else "it has no effect here"
        yield f"{where}annotation {key[:_SHOWN]} is not known: {hint}"


def _order_limits(texts: dict[str, str]) -> Iterator[str]:
    """A request above its limit would make the API server refuse the pod: lower the request."""
    for kind in ("cpu", "memory"):
        request, limit = f"mesh/proxy-{kind}-request", f"mesh/proxy-{kind}-limit"
        if texts[request] and texts[limit]:
            if parse_quantity(texts[request]) <= parse_quantity(texts[limit]):
                continue
            yield (
                f"{request}: {texts[request]} is more than the limit {texts[limit]}; "
                "the limit is taken for both"
            )
            texts[request] = texts[limit]


# -- one parser a kind: text -> canonical text ------------------------------------------------


def _switch(text: str, annotation: labels.Annotation, names: Mapping[str, int]) -> str:
    return "enabled" if parse_switch(text) else "disabled"


def _ports(text: str, annotation: labels.Annotation, names: Mapping[str, int]) -> str:
    items = (item.strip() for item in text.split(","))
    return print_ports(parse_ports(",".join(str(names.get(item, item)) for item in items)))


def _subnets(text: str, annotation: labels.Annotation, names: Mapping[str, int]) -> str:
    return ",".join(str(network) for network in parse_subnets(text))


def _quantity(text: str, annotation: labels.Annotation, names: Mapping[str, int]) -> str:
    if parse_quantity(text) <= 0:
        raise ValueError(f'expected a quantity above 0, got "{text[:_SHOWN]}"')
    return text


def _duration(text: str, annotation: labels.Annotation, names: Mapping[str, int]) -> str:
    if parse_duration(text) <= 0:
        raise ValueError(f'expected a duration above 0, got "{text[:_SHOWN]}"')
    return text


def _count(text: str, annotation: labels.Annotation, names: Mapping[str, int]) -> str:
    return str(parse_workers(text))


def _choice(text: str, annotation: labels.Annotation, names: Mapping[str, int]) -> str:
    if text not in annotation.choices:
        raise ValueError(f'expected {_one_of(annotation)}, got "{text[:_SHOWN]}"')
    return _SYNONYMS.get(text, text)


def _log_level(text: str, annotation: labels.Annotation, names: Mapping[str, int]) -> str:
    """Our four levels, or the general level in Linkerd's filter (`warn,linkerd=info`)."""
    for item in text.split(","):
        level = _LEVELS.get(item.strip().lower(), item.strip().lower())
        if level in annotation.choices:
            return level
    raise ValueError(f'expected {_one_of(annotation)}, got "{text[:_SHOWN]}"')


def _image(text: str, annotation: labels.Annotation, names: Mapping[str, int]) -> str:
    if not _IMAGE.fullmatch(text):
        raise ValueError(f'expected an image such as registry/mesh:1.0, got "{text[:_SHOWN]}"')
    if _FOREIGN_IMAGE.search(text):
        raise ValueError(f"{text[:_SHOWN]} is another mesh's proxy, which cannot serve this one")
    return text


def _one_of(annotation: labels.Annotation) -> str:
    *first, last = annotation.choices
    return f"{', '.join(first)} or {last}"


_PARSERS: Final[Mapping[str, Callable[[str, labels.Annotation, Mapping[str, int]], str]]] = {
    "switch": _switch,
    "ports": _ports,
    "subnets": _subnets,
    "cpu": _quantity,
    "memory": _quantity,
    "duration": _duration,
    "count": _count,
    "choice": _choice,
    "loglevel": _log_level,
    "image": _image,
}
