"""References from routes to Services; pure. Whether the Service exists is not asked here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from destination.dialects.reading import Reader, shown
from destination.facts import Key, as_text
from destination.fragments import ACCEPTED_SPELLING, INVALID_KIND, MALFORMED


def read_service_ref(reader: Reader, ref: Mapping[str, Any], path: str) -> tuple[Key, int, str]:
    """Service, port and why it may not be used ("" where it may). Port 0 is the parent's."""
    name = as_text(ref.get("name"))
    service = (as_text(ref.get("namespace")) or reader.key[0], name)
    kind, group = ref.get("kind", "Service"), ref.get("group", "")
    if kind != "Service" or group not in ("", "core", None):
        reader.warn(
            f"{path}.kind",
            INVALID_KIND,
            f"expected a Service, got {shown(kind)} of group {shown(group)}; "
            "its share is answered with 500",
        )
        return service, 0, INVALID_KIND
    if not name:
        reader.warn(f"{path}.name", MALFORMED, "expected the name of a Service, got none")
        return service, 0, MALFORMED
    port = ref.get("port")
    if port is None:
        reader.warn(f"{path}.port", ACCEPTED_SPELLING, "no port given: the parent's is taken")
        return service, 0, ""
    if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536:
        reader.warn(f"{path}.port", MALFORMED, f"expected a port, got {shown(port)}")
        return service, 0, MALFORMED
    return service, port, ""
