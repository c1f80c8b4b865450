"""The suites of others, built once and kept outside the clone.

As a command, `python -m tests.conformance.build` builds them all and prints their paths.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from tests.cluster.build import Program, built
from tests.cluster.cache import BuildError

HERE: Final = Path(__file__).parent
GRPC: Final = "google.golang.org/grpc/interop"

H2SPEC: Final = Program(HERE / "h2spec", "h2spec")
CLIENT: Final = Program(
    HERE / "interop", "gRPC's interop client", "1 to 4 minutes", package=f"{GRPC}/client"
)
SERVER: Final = Program(
    HERE / "interop", "gRPC's interop server", "1 to 4 minutes", package=f"{GRPC}/server"
)
BACKEND: Final = Program(HERE / "backend", "a server on Go's net/http")


def main() -> None:
    for program in (H2SPEC, CLIENT, SERVER, BACKEND):
        print(built(program))


if __name__ == "__main__":
    try:
        main()
    except BuildError as error:
        sys.exit(str(error))
