"""Which categories run in which mode, in the order in which they print."""

from __future__ import annotations

from enum import StrEnum

from mesh.check.before import BEFORE
from mesh.check.cluster import API, CLOCKS, VERSION
from mesh.check.dataplane import DATA_PLANE
from mesh.check.foreign import OTHERS
from mesh.check.installed import CONTROL_PLANE, EXISTENCE
from mesh.check.model import Category
from mesh.check.packages import COMMAND
from mesh.check.routing import ROUTING
from mesh.check.trust import TRUST
from mesh.check.webhook import WEBHOOK


class Mode(StrEnum):
    """Before an installation, the control plane, or all proxies and objects too."""

    PRE = "pre"
    DEFAULT = "default"
    PROXY = "proxy"


def categories_of(mode: Mode) -> tuple[Category, ...]:
    """What a mode checks. What concerns this machine comes first: it needs no cluster."""
    if mode is Mode.PRE:
        return (COMMAND, API, VERSION, BEFORE, OTHERS, CLOCKS)
    control = (COMMAND, API, VERSION, EXISTENCE, CONTROL_PLANE, TRUST, WEBHOOK, OTHERS, CLOCKS)
    return (*control, DATA_PLANE, ROUTING) if mode is Mode.PROXY else control
