"""Our packages with the data path compiled, as the wheel has them, for tests and benchmarks.

`python -m tests.support.compiled` prints the folder, made once for each state of the sources.
"""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.cluster.cache import BuildError, folder_of, kept

ROOT: Final = Path(__file__).parent.parent.parent
PACKAGES: Final = ("mesh", "init", "proxy", "identity", "destination")


def compiled_packages() -> Path:
    """The folder to import from. Raises BuildError with what the compiler said."""
    files = [Path(__file__), ROOT / "hatch_build.py", ROOT / "requirements" / "build.lock"]
    files += [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    decides = {str(file.relative_to(ROOT)): file.read_bytes() for file in files}
    decides["python"] = sys.version.encode()
    return kept(folder_of("compiled", decides), "packages", _make)


def environment() -> dict[str, str]:
    """Variables that let a Python child import these packages, and the tests, from nowhere else."""
    path = f"{compiled_packages()}{os.pathsep}{ROOT}"
    return {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


def _make(folder: Path) -> None:
    command = [sys.executable, str(ROOT / "hatch_build.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise BuildError(f"the data path does not compile:\n{done.stderr}")
    for package in PACKAGES:
        pure = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, folder / package, ignore=pure, dirs_exist_ok=True)
        compileall.compile_dir(folder / package, quiet=1)  # as installers do: start and memory


if __name__ == "__main__":
    try:
        print(compiled_packages())
    except BuildError as error:
        sys.exit(str(error))
