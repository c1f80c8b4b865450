"""A kubectl for the tests: that of PATH where it is new enough, else one built from its module.

Also a command: `python -m tests.cluster.tools` prints the folder to put first into PATH, or an
empty line where PATH is good as it is.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from mesh.local.demo import find_kubectl
from tests.cluster.build import HERE, Program, built
from tests.cluster.cache import BuildError

KUBECTL: Final = Program(HERE / "kubectl", "kubectl", "1 to 6 minutes", "k8s.io/kubectl")


def missing_folder() -> Path | None:
    """The folder of a kubectl that PATH lacks, built now if need be; None where PATH has one of
    1.28 or newer. Raises BuildError."""
    return built(KUBECTL).parent if find_kubectl() is None else None


if __name__ == "__main__":
    try:
        print(missing_folder() or "")
    except BuildError as error:
        sys.exit(f"no kubectl 1.28 or newer in PATH, and none can be built: {error}")
