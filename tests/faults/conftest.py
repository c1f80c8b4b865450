"""One toxiproxy for the tests of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.cache import BuildError
from tests.faults.toxics import Toxics, running


@pytest.fixture(scope="module")
def toxics() -> Iterator[Toxics]:
    try:
        with running() as found:
            yield found
    except BuildError as error:
        pytest.fail(str(error))
