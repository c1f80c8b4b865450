"""From a pod's spec to what `container.py` carries out, as data."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mesh.local.node import rootfs
from mesh.local.node.capabilities import CreateError, Credentials, credentials
from mesh.local.node.context import Node, machine_size
from mesh.local.node.environment import PATH, command, environment, expand

Object = dict[str, Any]
_ETC = ("hosts", "hostname", "nsswitch.conf", "resolv.conf")
PACKAGES = "/opt/packages"  # where the packages of another image appear in its containers


def volume_binds(
    pod: Object, container: Object, folder: Path, known: Mapping[str, str]
) -> list[tuple[str, str, bool]]:
    """The container's volumeMounts as binds, shallow targets first. Raises CreateError."""
    by_name = {volume["name"]: volume for volume in pod["spec"].get("volumes") or ()}
    binds = []
    for mount in container.get("volumeMounts") or ():
        volume = by_name.get(mount["name"])
        if volume is None:
            raise CreateError(f'volumeMounts: no volume is called "{mount["name"]}"')
        host = volume.get("hostPath")
        source = Path(host["path"]) if host else folder / "volumes" / mount["name"]
        sub = mount.get("subPath") or expand(mount.get("subPathExpr") or "", known)
        if sub:
            if sub.startswith("/") or ".." in sub.split("/"):
                raise CreateError(f'subPath must not leave its volume: "{sub}"')
            source = source / sub
            if not source.exists() and "emptyDir" in volume:
                source.mkdir(parents=True)
                source.chmod(0o777)
        if not source.exists():
            raise CreateError(f"{mount['mountPath']}: {source} does not exist")
        readonly = bool(mount.get("readOnly")) or not (host or "emptyDir" in volume)
        target = posixpath.normpath("/" + mount["mountPath"].lstrip("/"))
        binds.append((str(source), target, readonly))
    return sorted(binds, key=lambda bind: bind[1].count("/"))


def base_environment(node: Node, pod: Object, uid: int, image: str = "") -> dict[str, str]:
    """What every container has: PATH, HOME, HOSTNAME and the way to the API server."""
    made = {
        "PATH": PATH,
        "HOME": "/root" if uid == 0 else "/",
        "HOSTNAME": hostname(pod),
        "KUBERNETES_SERVICE_HOST": node.ranges.api,
        "KUBERNETES_SERVICE_PORT": "443",
        "KUBERNETES_SERVICE_PORT_HTTPS": "443",
        "KUBERNETES_PORT": f"tcp://{node.ranges.api}:443",
    }
    found = [PACKAGES] if image in node.images else []
    if not _inside(node.python.source, node.python.prefix):
        found.append(node.python.source)
    if found:
        made["PYTHONPATH"] = ":".join(found)
    return made


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def hostname(pod: Object) -> str:
    """The host name inside the pod, at most 63 characters."""
    return str(pod["spec"].get("hostname") or pod["metadata"]["name"])[:63].rstrip("-.")


def etc_files(node: Node, pod: Object, addresses: tuple[str, ...]) -> dict[str, str]:
    """What a pod has of its own in /etc, so that names resolve here as in any image."""
    spec, namespace = pod["spec"], pod["metadata"]["namespace"]
    name = hostname(pod)
    full = (
        f"{name}.{spec['subdomain']}.{namespace}.svc.{node.domain} "
        if spec.get("subdomain")
        else ""
    )
    hosts = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    hosts += [f"{address}\t{full}{name}" for address in addresses]
    for alias in spec.get("hostAliases") or ():
        hosts.append("\t".join([alias["ip"], *(alias.get("hostnames") or ())]))
    return {
        "hosts": "\n".join(hosts) + "\n",
        "hostname": name + "\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
        "resolv.conf": _resolv_conf(node, spec, namespace),
    }


def _resolv_conf(node: Node, spec: Object, namespace: str) -> str:
    own = spec.get("dnsConfig") or {}
    servers: list[str] = []
    search: list[str] = []
    options = {}
    if spec.get("dnsPolicy") != "None":
        servers = [node.ranges.dns]
        search = [f"{namespace}.svc.{node.domain}", f"svc.{node.domain}", node.domain]
        options = {"ndots": "5"}
    servers += [entry for entry in own.get("nameservers") or () if entry not in servers]
    search += [entry for entry in own.get("searches") or () if entry not in search]
    options |= {entry["name"]: entry.get("value") for entry in own.get("options") or ()}
    lines = [f"nameserver {server}" for server in servers[:3]]
    if search:
        lines.insert(0, f"search {' '.join(search)}")
    if options:
        words = [name if value is None else f"{name}:{value}" for name, value in options.items()]
        lines.append(f"options {' '.join(words)}")
    return "\n".join(lines) + "\n"


def process_plan(who: Credentials, argv: list[str], env: Mapping[str, str], cwd: str) -> Object:
    """The part of a plan that says who runs what; all that `execute` needs."""
    return {
        "argv": argv,
        "env": dict(env),
        "cwd": cwd or "/",
        "uid": who.uid,
        "gid": who.gid,
        "groups": list(who.groups),
        "capabilities": sorted(who.capabilities),
        "no_new_privileges": who.no_new_privileges,
    }


def container_plan(
    node: Node, pod: Object, container: Object, *, folder: Path, base: Path
) -> Object:
    """The whole plan of one container run. Raises CreateError.

    `folder` is the pod's folder on the node's tmpfs, `base` an empty one for this run.
    """
    who = credentials(pod["spec"], container)
    namespace = pod["metadata"]["namespace"]
    env = environment(
        pod,
        container,
        node.lookup(namespace),
        base=base_environment(node, pod, who.uid, container.get("image", "")),
        machine=machine_size(),
    )
    argv = command(container, env)
    binds = rootfs.system_binds(node.python, node.mounts)
    binds += [(str(folder / "etc" / name), f"/etc/{name}", False) for name in _ETC]
    if container.get("image") in node.images:
        binds.append((node.images[container["image"]], PACKAGES, True))
    message = container.get("terminationMessagePath") or "/dev/termination-log"
    binds += volume_binds(pod, container, folder, env)
    binds.append((str(base / "message"), message, False))
    covered = {target for _, target, _ in binds}
    tmpfs = [
        [target, mode]
        for target, mode in (("/tmp", "mode=1777"), ("/run", "mode=755"))
        if target not in covered
    ]
    return {
        **process_plan(who, argv, env, container.get("workingDir") or "/"),
        "base": str(base),
        "hostname": hostname(pod),
        "binds": binds,
        "tmpfs": tmpfs,
        "reachable": rootfs.reachable(node.python),
        "readonly": who.readonly_root,
        "privileged": who.privileged,
    }
