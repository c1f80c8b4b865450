"""What a node is made of before it starts: its root of Debian packages, programs and images."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cluster.build import COMPONENTS, built
from tests.cluster.cache import folder_of, kept
from tests.cluster.debian import make_root
from tests.cluster.images import Made, coredns_image, mesh_image, pause_image

RELEASE: Final = "bookworm"  # containerd 1.6 and runc 1.1: known to work with this kubelet
PACKAGES: Final = (
    *("base-files", "mount", "util-linux", "iproute2", "iptables", "libseccomp2"),
    *("etcd-server", "containerd", "runc", "containernetworking-plugins"),
)
Say = Callable[[str], None]


@dataclass(frozen=True)
class Parts:
    """All that takes long to make, from the cache."""

    root: Path
    components: Path
    images: tuple[Made, ...]  # pause first: every pod needs it
    mesh: Made


def make_parts(say: Say) -> Parts:
    """Make what is not in the cache, Go's programs beside what is Debian's and ours: a C compiler
    takes one processor for minutes. Raises BuildError."""
    with ThreadPoolExecutor(1) as beside:
        debian = beside.submit(_make_images, say)
        components = built(COMPONENTS)
        say("Kubernetes' components")
        images = (pause_image(), coredns_image())
        say("images of pause and CoreDNS")
        root, mesh = debian.result()
    return Parts(root, components, images, mesh)


def _make_images(say: Say) -> tuple[Path, Made]:
    root = _node_root()
    say("the node's root: etcd, containerd, runc and CNI plugins of Debian")
    mesh = mesh_image()
    say(f"the image {mesh.name}")
    return root, mesh


def _node_root() -> Path:
    def make(made: Path) -> None:
        make_root(made, RELEASE, PACKAGES, folder / "build.log", variant="extract")
        for family in ("iptables", "ip6tables"):
            for end in ("", "-save", "-restore"):
                (made / "usr" / "sbin" / f"{family}{end}").symlink_to(f"{family}-nft{end}")

    decides = {"packages": " ".join((RELEASE, *PACKAGES)).encode()}
    decides["this"] = Path(__file__).read_bytes()
    folder = folder_of("node-root", decides)
    return kept(folder, "root", make)
