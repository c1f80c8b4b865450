"""Which documents of many can matter for one request, by the words in their text; pure.

Parsing a folder of thousands of objects takes seconds, and a request is about a handful. So
documents are chosen by the name of the Service that is asked for, then by what the chosen ones
name: selectors, backends, profiles. Too many cost time, too few would cost the truth: what no
Service answers in the chosen ones is asked again of all (`mesh.explain.answering`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from mesh.lint.rules.finding import Finding
from mesh.lint.rules.source import Manifest, Piece, pieces_of, read_piece

FEW: Final = 60  # documents that are simply read
_ALWAYS: Final = re.compile(
    r"kind[\"']?\s*:\s*[\"']?(?:Namespace|ReferenceGrant)\b|\bmesh-config\b|\\[uxU]"
)
# Several objects in one document, and flow style: where an object begins is not seen in the text.
_OPAQUE: Final = re.compile(r"(?m)^kind\s*:\s*[\"']?\w*List\b|\A(?:---|\s|#.*\n)*[\[{]")
_SERVICE: Final = re.compile(r"(?m)^kind\s*:\s*[\"']?Service[\"']?\s*(?:#.*)?$")
_HOME: Final = re.compile(r"\bnamespace[\"']?\s*:\s*[\"']?([a-z0-9-]+)")
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?(?::\d{1,5})?")
_FOLLOWED: Final = frozenset(
    ("TrafficSplit", "ServiceProfile", "HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute")
) | {"HTTPRouteGroup", "EndpointSlice"}

Words = frozenset[str]


@dataclass(frozen=True, slots=True)
class Pertinent:
    """The objects of the documents that matter, what is wrong with these documents, how many
    there are of all, and the namespaces of all Services ("" where one names none)."""

    manifests: list[Manifest]
    findings: list[Finding]
    documents: int
    homes: frozenset[str]


def read_pertinent(files: Iterable[tuple[str, str]], names: Iterable[str]) -> Pertinent | None:
    """What matters to these names; None where everything may as well be read."""
    pieces = [piece for file in files for piece in pieces_of(*file)]
    if len(pieces) <= FEW or any(_OPAQUE.search(piece.text) for piece in pieces):
        return None
    manifests: list[Manifest] = []
    findings: list[Finding] = []
    left = dict(enumerate(pieces))
    wanted: set[Words] = {frozenset((name,)) for name in names if name}
    chosen = [at for at, piece in left.items() if _ALWAYS.search(piece.text)]
    known: set[Words] = set()
    while wanted or chosen:
        chosen += [
            at
            for at, piece in left.items()
            if any(all(_has(piece.text, word) for word in words) for words in wanted)
        ]
        known |= wanted
        wanted = set()
        for at in dict.fromkeys(chosen):
            before = len(manifests)
            read_piece(left.pop(at), manifests, findings)
            for item in manifests[before:]:
                wanted.update(_named_in(item))
        wanted -= known
        chosen = []
    order = {file: at for at, file in enumerate(dict.fromkeys(piece.file for piece in pieces))}
    manifests.sort(key=lambda item: (order[item.file], item.line))
    return Pertinent(manifests, findings, len(pieces), _homes(pieces))


def _homes(pieces: Iterable[Piece]) -> frozenset[str]:
    texts = (piece.text for piece in pieces if _SERVICE.search(piece.text))
    return frozenset(found[1] if (found := _HOME.search(text)) else "" for text in texts)


def _has(text: str, word: str) -> bool:
    """The word stands in the text, as a whole; most texts do not have it at all, which is cheap."""
    return word in text and _pattern(word).search(text) is not None


@cache
def _pattern(word: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![A-Za-z0-9-]){re.escape(word)}(?![A-Za-z0-9-])")


def _named_in(item: Manifest) -> Iterator[Words]:
    """What else matters if this object does."""
    spec = item.obj.get("spec")
    if item.kind == "Service" and isinstance(spec, Mapping):
        selector = spec.get("selector")
        if isinstance(selector, Mapping) and selector:
            yield frozenset(str(value) for value in selector.values())
        yield from _names_in(spec.get("externalName"))
    elif item.kind in _FOLLOWED:
        yield from _names_in(spec if item.kind != "EndpointSlice" else item.obj.get("endpoints"))
        yield from _names_in(item.name)


def _names_in(value: Any) -> Iterator[Words]:
    """The first labels of all texts that could be the name of something."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, str) and _NAME.fullmatch(value):
            yield frozenset((value.partition(".")[0].partition(":")[0],))
