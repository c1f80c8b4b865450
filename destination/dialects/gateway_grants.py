"""ReferenceGrant of the Gateway API: which routes may lead into its namespace.

Gateways read the same objects, for Secrets and for parents of their own: what is not about
Services is theirs, and only what nobody can mean is a Problem. An entry that does not read
grants nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Final

from destination.dialects.reading import Reader, shown
from destination.facts import Object, as_text
from destination.fragments import MALFORMED, UNKNOWN_FIELD, GrantFragment
from mesh.core import labels

_FROM: Final = ("group", "kind", "namespace")
_TO: Final = ("group", "kind", "name")
_SOURCES: Final = (
    *("HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute"),
    *("Gateway", "ListenerSet", "BackendTLSPolicy"),
)
_TARGETS: Final = ("Service", "Secret", "ConfigMap")


def read_grant(
    grant: Object, resource: str, cluster_domain: str = labels.CLUSTER_DOMAIN
) -> GrantFragment:
    """Read a ReferenceGrant. Never raises: what does not read is a Problem."""
    reader = Reader(grant, resource, "ReferenceGrant")
    reader.unknown(reader.spec, "spec", ("from", "to"))
    sources = {
        (as_text(item.get("group")), as_text(item["kind"]), as_text(item["namespace"]))
        for item in _entries(reader, "from", _FROM, _SOURCES)
    }
    names = {
        as_text(item.get("name"))
        for item in _entries(reader, "to", _TO, _TARGETS)
        if item["kind"] == "Service" and item.get("group") in ("", "core", None)
    }
    return GrantFragment(
        reader.ref, reader.source, frozenset(sources), frozenset(names), tuple(reader.problems)
    )


def _entries(
    reader: Reader, field: str, known: tuple[str, ...], kinds: tuple[str, ...]
) -> list[Mapping[str, Any]]:
    """The entries of one side that read."""
    path, found = f"spec.{field}", []
    items = reader.items(reader.spec.get(field), path)
    if not items:
        reader.warn(path, MALFORMED, "expected at least one entry: nothing is granted")
    needed = [name for name in known if name not in ("group", "name")]
    for index, value in enumerate(items):
        here = f"{path}[{index}]"
        item = reader.mapping(value, here)
        reader.unknown(item, here, known)
        missing = [name for name in needed if not as_text(item.get(name))]
        if missing:
            message = f"expected a {' and a '.join(missing)}: this entry grants nothing"
            reader.warn(here, MALFORMED, message)
            continue
        _check_words(reader, item, here, kinds)
        found.append(item)
    return found


def _check_words(
    reader: Reader, item: Mapping[str, Any], path: str, kinds: tuple[str, ...]
) -> None:
    """Kinds and groups that look like others which exist."""
    group, kind = item.get("group"), as_text(item["kind"])
    if "/" in as_text(group):
        message = f"a group is named without a version, got {shown(group)}: nothing is granted"
        reader.warn(f"{path}.group", MALFORMED, message)
    near = difflib.get_close_matches(kind.lower(), [known.lower() for known in kinds], n=1)
    meant = next((known for known in kinds if near and known.lower() == near[0]), kind)
    if meant != kind and kind not in kinds:
        message = f"no such kind: {shown(kind)}; did you mean {meant}?"
        reader.warn(f"{path}.kind", UNKNOWN_FIELD, message)
