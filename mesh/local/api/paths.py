"""URL paths of the Kubernetes API, read into what they ask for. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote


@dataclass(frozen=True, slots=True)
class Target:
    """What a resource path names. Empty strings stand for what the path does not have."""

    group: str
    version: str
    plural: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    rest: str = ""  # after pods/NAME/proxy, with its leading slash


def parse(path: str) -> Target | None:
    """The target of a resource path; None for every other path. `path` is percent-encoded."""
    parts = path.split("/")[1:]
    match parts:
        case ["api", version, *tail] if tail:
            group = ""
        case ["apis", group, version, *tail] if tail:
            pass
        case _:
            return None
    return _read(unquote(group), unquote(version), tail)


def _read(group: str, version: str, tail: list[str]) -> Target | None:
    namespace = ""
    if tail[0] == "namespaces" and len(tail) >= 3 and tail[2] not in ("status", "finalize"):
        namespace, tail = unquote(tail[1]), tail[2:]
    if not tail or not tail[0]:
        return None
    plural, *more = tail
    name = unquote(more[0]) if more else ""
    subresource = unquote(more[1]) if len(more) > 1 else ""
    rest = "/" + "/".join(more[2:]) if len(more) > 2 else ""
    return Target(group, version, unquote(plural), namespace, name, subresource, rest)
