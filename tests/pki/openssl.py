"""OpenSSL's command line as a second opinion on the certificates that we make."""

from __future__ import annotations

import subprocess
from pathlib import Path


def openssl(*arguments: str, stdin: str = "") -> str:
    """Standard output and error of one command, whatever its exit code."""
    done = subprocess.run(
        ["openssl", *arguments], input=stdin, capture_output=True, text=True, timeout=20
    )
    return done.stdout + done.stderr


def verify(folder: Path, *, root: str, chain: str, purpose: str = "sslserver") -> str:
    """`openssl verify -x509_strict` of a chain, leaf first; ends in ": OK" when it holds."""
    (folder / "root.pem").write_text(root)
    (folder / "chain.pem").write_text(chain)
    return openssl(
        "verify",
        "-x509_strict",
        "-purpose",
        purpose,
        "-CAfile",
        str(folder / "root.pem"),
        "-untrusted",
        str(folder / "chain.pem"),
        str(folder / "chain.pem"),
    ).strip()


def text(pem: str) -> str:
    return openssl("x509", "-noout", "-text", stdin=pem)
