"""The Gateway API's conformance suite: its program, its application, and a run on a node.

The suite is a program of ours around the project's module; the application that it deploys is
Istio's echo app, built from its module and put into an image under the name that the suite's
manifests ask for, since nothing is pulled here. Definitions come from the project's module.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cluster.build import Program, built, check_go
from tests.cluster.cache import BuildError, kept
from tests.cluster.images import Made
from tests.cluster.oci import Image, write_image, write_layer

HERE: Final = Path(__file__).parent
_ECHO: Final = "istio.io/istio/pkg/test/echo/cmd"

SUITE: Final = Program(
    HERE / "gateway", "the Gateway API's conformance suite", "3 to 8 minutes", package="."
)
CLIENT: Final = Program(
    HERE / "echo", "Istio's echo client", "2 to 5 minutes", package=f"{_ECHO}/client"
)
SERVER: Final = Program(
    HERE / "echo", "Istio's echo server", "2 to 5 minutes", package=f"{_ECHO}/server"
)
# All that a mesh can support, and what the suite's reports do not count.
FEATURES: Final = (
    "MeshClusterIPMatching",
    "MeshConsumerRoute",
    "MeshHTTPRouteRewritePath",
    "MeshHTTPRouteSchemeRedirect",
    "MeshHTTPRouteRedirectPort",
    "MeshHTTPRouteRedirectPath",
    "MeshHTTPRouteBackendRequestHeaderModification",
    "MeshHTTPRouteQueryParamMatching",
    "MeshHTTPRouteNamedRouteRule",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteParentRefPort",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
)
NAMESPACES: Final = ("gateway-conformance-mesh", "gateway-conformance-mesh-consumer")
_PASSED: Final = re.compile(r"^    --- PASS: TestConformance/(\w+)", re.M)
_FAILED: Final = re.compile(r"^    --- FAIL: TestConformance/(\w+)", re.M)


@dataclass(frozen=True)
class Results:
    """Names of the tests that ran, and everything that the suite printed."""

    passed: frozenset[str]
    failed: frozenset[str]
    log: str


def module_folder(name: str) -> Path:
    """Where a module of the suite is unpacked. Raises BuildError."""
    go = check_go(SUITE)
    command = [go, "list", "-m", "-f", "{{.Dir}}", name]
    done = subprocess.run(
        command, cwd=SUITE.sources, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        raise BuildError(f"{name} is not there: {done.stderr.strip()}")
    return Path(done.stdout.strip())


def definitions() -> Path:
    """The folder of the definitions that the suite is for, standard channel. Raises BuildError."""
    return module_folder("sigs.k8s.io/gateway-api") / "config" / "crd" / "standard"


def echo_image() -> Made:
    """The application's image, under the name that the suite asks for. Raises BuildError."""
    manifests = module_folder("sigs.k8s.io/gateway-api/conformance") / "mesh" / "manifests.yaml"
    found = re.search(r"image: (\S+)", manifests.read_text())
    if found is None:
        raise BuildError(f"{manifests}: expected an image, found none")
    client, server = built(CLIENT), built(SERVER)
    image = Image(
        found[1],
        [],
        user="1338",
        environment={"PATH": "/usr/local/bin:/usr/bin:/bin"},
        entrypoint=["/usr/local/bin/server"],
    )

    def make(made: Path) -> None:
        layer, certificate, key = (
            made.with_name(name) for name in ("layer.tar", "cert.crt", "cert.key")
        )
        _self_signed(certificate, key)
        parts = {"/usr/local/bin/client": client, "/usr/local/bin/server": server}
        write_layer(layer, parts | {"/cert.crt": certificate, "/cert.key": key})
        write_image(made, image, [layer])

    return Made(image.name, kept(server.parent, "echo.tar", make))


def _self_signed(certificate: Path, key: Path) -> None:
    """A certificate that the application shows and nobody checks; its key is readable by all."""
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    command = ["openssl", "req", "-x509", *curve, "-days", "3650", "-subj", "/CN=echo", *files]
    subprocess.run(command, capture_output=True, check=True)
    key.chmod(0o644)


def run_suite(kubeconfig: Path, log: Path, *, successes: int, seconds: float) -> Results:
    """Run all mesh tests with all features on; each case needs `successes` good answers in a
    row. The pods of the suite must be injected: the mesh has to be ready before."""
    command = [
        *(str(built(SUITE)), "-test.v", "-test.parallel=16", "--gateway-class="),
        "--conformance-profiles=MESH-HTTP,MESH-GRPC",
        f"--supported-features={','.join(FEATURES)}",
        "--namespace-annotations=mesh/inject=enabled",
        f"--timeout-config-overrides=RequiredConsecutiveSuccesses:{successes};"
        "MaxTimeToConsistency:60",
    ]
    with log.open("w") as output:
        subprocess.run(
            command,
            env=os.environ | {"KUBECONFIG": str(kubeconfig)},
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            check=False,
        )
    text = log.read_text(errors="replace")
    return Results(frozenset(_PASSED.findall(text)), frozenset(_FAILED.findall(text)), text)


def main() -> None:
    print(built(SUITE))
    print(echo_image().file)


if __name__ == "__main__":
    try:
        main()
    except BuildError as error:
        sys.exit(str(error))
