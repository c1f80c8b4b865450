"""A kubectl for the tests: that of PATH where it is new enough, else one built from its module.

Also a command: `python -m tests.cluster.tools` prints the folder to put first into PATH.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from mesh.local.demo import find_kubectl
from tests.cluster.build import HERE, Program, built
from tests.cluster.cache import BuildError

KUBECTL: Final = Program(HERE / "kubectl", "kubectl", "1 to 6 minutes", "k8s.io/kubectl")


def kubectl_folder() -> Path:
    """The folder of a program named kubectl, 1.28 or newer. Raises BuildError."""
    found = find_kubectl()
    if found is not None:
        return Path(found).parent
    return built(KUBECTL).parent


if __name__ == "__main__":
    try:
        print(kubectl_folder())
    except BuildError as error:
        sys.exit(f"no kubectl 1.28 or newer in PATH, and none can be built: {error}")
