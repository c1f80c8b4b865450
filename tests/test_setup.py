"""`deploy/setup.sh`: what it installs is used as a program and never starts as a daemon."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SETUP = Path(__file__).parent.parent / "deploy" / "setup.sh"
APT = """#!/bin/bash
[[ $1 = install ]] && { echo "$@" >"$RECORD"; cat "$POLICY_RC_D" >>"$RECORD"; }
exit 0
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="installs packages only as root")
def test_daemons_of_installed_packages_stay_down(tmp_path: Path) -> None:
    """apt-get is a script here; it sees the policy that Debian asks before a start."""
    for name in ("bash", "id", "cat", "rm", "chmod", "dirname"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    for name, text in {"apt-get": APT, "systemctl": "#!/bin/bash\nexit 0\n"}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    policy, record = tmp_path / "policy-rc.d", tmp_path / "record"

    subprocess.run(
        ["/bin/bash", str(SETUP), "--bench-tools"],
        env={"PATH": str(tmp_path), "POLICY_RC_D": str(policy), "RECORD": str(record)},
        check=True,
        capture_output=True,
    )

    said = record.read_text()
    assert "wrk" in said
    assert said.endswith("#!/bin/sh\nexit 101\n")
    assert not policy.exists()
