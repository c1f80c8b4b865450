"""`mesh inject` and `mesh uninject`: parse, call one function, print."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from mesh.core import labels
from mesh.core.errors import ConfigError
from mesh.inject.config import InjectConfig, load_config
from mesh.inject.offline import Manual, Report, inject_text, uninject_text
from mesh.inject.patch import Cluster
from mesh.runtime.bundle import split_bundle

_SUFFIXES = (".yaml", ".yml", ".json")
_BUNDLE_HINT = (
    "kubectl -n mesh get configmap mesh-trust-roots -o jsonpath='{.data.ca-bundle\\.crt}' prints it"
)


def describe_annotations() -> str:
    """The table of annotations for the end of the help, one a line."""
    width = max(len(annotation.name) for annotation in labels.ANNOTATIONS)
    lines = ["\b", "Annotations of pods and namespaces (the pod's own win):"]
    for item in labels.ANNOTATIONS:
        default = f" [{item.default}]" if item.default else ""
        lines.append(f"  {item.name:<{width}}  {item.meaning}{default}")
    return "\n".join(lines)


@click.command(epilog=describe_annotations())
@click.argument("paths", nargs=-1, required=True, metavar="FILE|FOLDER|- ...")
@click.option("--manual", is_flag=True, help="Write the whole sidecar instead of the annotation.")
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    help="With --manual: the trust anchors, PEM.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="With --manual: inject.json of ConfigMap mesh-config. [default: a plain mesh install]",
)
@click.option(
    "--native-sidecar",
    is_flag=True,
    help="With --manual: the cluster is 1.29 or newer, nodes included.",
)
def inject(
    paths: tuple[str, ...],
    manual: bool,
    bundle: Path | None,
    config: Path | None,
    native_sidecar: bool,
) -> None:
    """Print manifests with the proxy switched on. Needs no cluster.

    \b
    mesh inject deployment.yaml | kubectl apply -f -
    """
    if not manual and (bundle or config or native_sidecar):
        raise click.UsageError("--bundle, --config and --native-sidecar go with --manual")
    wanted = read_manual(bundle, config, native=native_sidecar) if manual else None
    run(paths, lambda text, source: inject_text(text, source=source, manual=wanted))


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="FILE|FOLDER|- ...")
def uninject(paths: tuple[str, ...]) -> None:
    """Print manifests without the proxy and its switch. Needs no cluster.

    What mesh inject added goes. So does a switch that you wrote yourself, of any dialect, since
    it would bring the proxy back: for such a manifest this is not the reverse of mesh inject,
    which had left it alone. A switch that says disabled stays.

    \b
    kubectl get deploy web -o yaml | mesh uninject - | kubectl apply -f -
    """
    run(paths, lambda text, source: uninject_text(text, source=source))


def run(paths: tuple[str, ...], change: Callable[[str, str], tuple[str, list[Report]]]) -> None:
    """Change every text, print the result and one line an object; exit 1 if one failed."""
    failed, last = False, ""
    for source, text in read_texts(paths):
        changed, reports = change(text, source)
        click.echo(separator(last, changed) + changed, nl=False)
        last = changed or last
        for report in reports:
            failed = failed or report.failed
            for line in report_lines(report):
                click.echo(line, err=True)
    if failed:
        sys.exit(1)


def separator(before: str, after: str) -> str:
    """What must stand between two files so that they stay two documents."""
    if not before or not after:
        return ""
    newline = "" if before.endswith("\n") else "\n"
    return newline if after.startswith("---") else newline + "---\n"


def report_lines(report: Report) -> Iterator[str]:
    """What a person reads on stderr."""
    yield f"{report.name} {report.outcome}"
    for message in report.messages:
        yield f"  {'error' if report.failed else 'warning'}: {message}"


def read_texts(paths: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """(source, text) of each file; folders give their manifests, sorted. Raises ConfigError."""
    for path in paths:
        if path == "-":
            yield "-", _decode("stdin", sys.stdin.buffer.read)
            continue
        place = Path(path)
        files = [place]
        if place.is_dir():
            files = sorted(p for p in place.rglob("*") if p.suffix in _SUFFIXES and p.is_file())
            if not files:
                raise ConfigError(f"{path}: expected {', '.join(_SUFFIXES)} files, found none")
        for file in files:
            yield str(file), _decode(str(file), file.read_bytes)


def _decode(name: str, read: Callable[[], bytes]) -> str:
    """Line ends stay as they are."""
    try:
        return read().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: cannot be read: {error}") from error


def read_manual(bundle: Path | None, config: Path | None, *, native: bool) -> Manual:
    """Bundle and config from their files. Raises ConfigError."""
    if bundle is None:
        raise click.UsageError(f"--manual needs --bundle, the trust anchors; {_BUNDLE_HINT}")
    try:
        pem = bundle.read_text()
        split_bundle(pem)
        known = load_config(config.read_text()) if config else InjectConfig()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{bundle}: {error}; {_BUNDLE_HINT}") from error
    return Manual(known, pem, Cluster(native=native))
