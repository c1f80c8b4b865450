"""Where the control plane's pods may run: taints and labels of nodes, in kubectl's words. Pure."""

from __future__ import annotations

import re
from typing import Any, Final

_KEY: Final = re.compile(
    r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
)
_VALUE: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def check_tolerations(text: str) -> str:
    """The text, if it says taints as `kubectl taint` does. Raises ValueError."""
    tolerations_of(text)
    return text


def check_labels(text: str) -> str:
    """The text, if it says labels as `kubectl label` does. Raises ValueError."""
    labels_of(text)
    return text


def tolerations_of(text: str) -> list[dict[str, Any]]:
    """`dedicated=mesh:NoSchedule,spot` -> tolerations; without a value or an effect: of all."""
    found = []
    for part in filter(None, text.split(",")):
        taint, colon, effect = part.partition(":")
        key, equals, value = taint.partition("=")
        if (
            not _KEY.fullmatch(key)
            or not _VALUE.fullmatch(value)
            or (colon and effect not in _EFFECTS)
        ):
            raise ValueError(f'expected taints such as dedicated=mesh:NoSchedule, got "{part}"')
        made = {"key": key, "operator": "Equal" if equals else "Exists"}
        found.append(
            made | ({"value": value} if equals else {}) | ({"effect": effect} if effect else {})
        )
    return found


def labels_of(text: str) -> dict[str, str]:
    """`pool=system,disk=ssd` -> labels."""
    found = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals or not _KEY.fullmatch(key) or not _VALUE.fullmatch(value):
            raise ValueError(f'expected labels such as pool=system, got "{part}"')
        found[key] = value
    return found
