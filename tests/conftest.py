"""What holds for all tests."""

from __future__ import annotations

import os

from hypothesis import settings

from tests.support.standstill import pytest_runtest_protocol, pytest_terminal_summary

__all__ = ["pytest_runtest_protocol", "pytest_terminal_summary"]

# A busy machine is no finding, and the same sources have the same result; other examples each
# time with MESH_EXPLORE=1.
explores = bool(os.environ.get("MESH_EXPLORE"))
settings.register_profile("patient", deadline=None, derandomize=not explores)
settings.load_profile("patient")
