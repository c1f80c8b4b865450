"""The embedded API server that the commands run against."""

from __future__ import annotations

from tests.local.api.conftest import server

__all__ = ["server"]
