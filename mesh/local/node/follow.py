"""A watch of the store, for as long as the daemon lives."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from mesh.core.errors import ApiError
from mesh.local.api.store import Store

Object = dict[str, Any]

log = logging.getLogger(__name__)


async def follow(store: Store, resource: str, saw: Callable[[str, Object], None]) -> None:
    """Call `saw` with every present object as ADDED, then with each change. Until cancelled.

    The objects are the store's own: `saw` must not change them.
    """
    while True:
        try:
            async with store.watch(resource) as watch:
                while True:
                    await watch.wait()
                    while (change := watch.take()) is not None:
                        _tell(saw, *change)
        except ApiError as error:
            if error.code != 410:
                raise
            log.warning("watch fell behind resource=%s", resource)


def _tell(saw: Callable[[str, Object], None], type_: str, obj: Object) -> None:
    """A bug about one object must not end the daemon."""
    try:
        saw(type_, obj)
    except Exception:
        log.exception("event not handled name=%s", obj["metadata"].get("name"))
