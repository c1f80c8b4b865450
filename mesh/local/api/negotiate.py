"""What a client wants back: plain objects, a Table, or partial objects; and in which version.

Pure: reads an Accept header. Protobuf is never needed in answers: clients that prefer it
name JSON second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

META: Final = "meta.k8s.io"
DISCOVERY: Final = "apidiscovery.k8s.io"


@dataclass(frozen=True, slots=True)
class Wanted:
    """One entry of an Accept header: media type and, for transformed answers, as/g/v."""

    media: str
    kind: str = ""  # the `as` parameter
    group: str = ""
    version: str = ""

    @property
    def content_type(self) -> str:
        if not self.kind:
            return self.media
        return f"{self.media};g={self.group};v={self.version};as={self.kind}"


def parse_accept(header: str) -> list[Wanted]:
    """The entries by preference; quality values order, equal ones keep their order."""
    found: list[tuple[float, int, Wanted]] = []
    for number, part in enumerate(header.split(",")):
        media, *parameters = (piece.strip() for piece in part.split(";"))
        known = dict(p.split("=", 1) for p in parameters if "=" in p)
        try:
            quality = float(known.get("q", "1"))
        except ValueError:
            quality = 0.0
        wanted = Wanted(media, known.get("as", ""), known.get("g", ""), known.get("v", ""))
        if quality > 0 and media:
            found.append((-quality, number, wanted))
    return [wanted for _, _, wanted in sorted(found, key=lambda entry: entry[:2])]


def _is_json(wanted: Wanted) -> bool:
    return wanted.media in ("application/json", "*/*", "application/*")


def transformed(header: str) -> Wanted | None:
    """A Table or PartialObjectMetadata form if the client prefers one; None for plain objects."""
    for wanted in parse_accept(header):
        if not _is_json(wanted):
            continue
        if not wanted.kind:
            return None
        if (
            wanted.kind in ("Table", "PartialObjectMetadata", "PartialObjectMetadataList")
            and wanted.group == META
            and wanted.version in ("v1", "v1beta1")
        ):
            return wanted
    return None


def aggregated_discovery(header: str) -> Wanted | None:
    """The first aggregated form that the client takes; None where it wants the old lists."""
    for wanted in parse_accept(header):
        if not _is_json(wanted):
            continue
        if not wanted.kind:
            return None
        if (
            wanted.kind == "APIGroupDiscoveryList"
            and wanted.group == DISCOVERY
            and wanted.version in ("v2", "v2beta1")
        ):
            return wanted
    return None
