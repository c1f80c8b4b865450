"""Certificates that all contenders use alike: P-256 leaves of one issuer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.support.authority import TrustChain, workload


@dataclass(frozen=True)
class Files:
    """One workload's credentials as files."""

    identity: str
    bundle: Path
    leaf: Path  # key and chain
    chain: Path
    key: Path


def make_files(folder: Path, account: str, chain: TrustChain) -> Files:
    """Sign a leaf for `account` and lay it out as everybody wants it."""
    whose = workload(account)
    leaf = chain.leaf_file(folder, whose)
    text = leaf.read_text()
    split = text.index("-----BEGIN CERTIFICATE-----")
    files = Files(
        identity=whose.dns(),
        bundle=folder / "bundle.pem",
        leaf=leaf,
        chain=folder / f"{account}-chain.pem",
        key=folder / f"{account}-key.pem",
    )
    files.bundle.write_text(chain.bundle)
    files.key.write_text(text[:split])
    files.chain.write_text(text[split:])
    return files
