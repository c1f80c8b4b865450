"""Shopify's toxiproxy, built once and kept outside the clone.

As a command, `python -m tests.faults.build` builds it and prints its path.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from tests.cluster.build import Program, built
from tests.cluster.cache import BuildError

TOXIPROXY: Final = Program(
    Path(__file__).parent / "toxiproxy",
    "toxiproxy",
    "1 to 2 minutes",
    package="github.com/Shopify/toxiproxy/v2/cmd/server",
)


if __name__ == "__main__":
    try:
        print(built(TOXIPROXY))
    except BuildError as error:
        sys.exit(str(error))
