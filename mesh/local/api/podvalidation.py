"""What the API server refuses in a pod spec, of a pod or of a template. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from mesh.core.quantity import parse_quantity
from mesh.local.api.resources import Object
from mesh.local.api.status import Fault, bad, duplicate, forbidden_field, required, unsupported

LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_PORT_NAME: Final = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_ENV: Final = re.compile(r"[\x20-\x3c\x3e-\x7e]+")
LABEL_WORDS: Final = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
    "must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex "
    "used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)


def pod_spec_faults(spec: Object, path: str) -> Iterator[Fault]:
    """What is wrong with a pod spec, of a pod or in a template."""
    if not spec.get("containers"):
        yield required(f"{path}.containers")
    volumes: list[str] = []
    for number, volume in enumerate(spec.get("volumes") or ()):
        place = f"{path}.volumes[{number}]"
        name = volume.get("name", "")
        if name in volumes:
            yield duplicate(f"{place}.name", name)
        elif name and not LABEL.fullmatch(name):
            yield bad(f"{place}.name", name, LABEL_WORDS)
        volumes.append(name)
        if sum(1 for key, value in volume.items() if key != "name" and value is not None) > 1:
            yield forbidden_field(place, "may not specify more than 1 volume type")
    if spec.get("restartPolicy") not in ("Always", "OnFailure", "Never"):
        yield unsupported(
            f"{path}.restartPolicy", spec.get("restartPolicy"), ("Always", "OnFailure", "Never")
        )
    names: list[str] = []
    for field in ("initContainers", "containers"):
        for number, container in enumerate(spec.get(field) or ()):
            place = f"{path}.{field}[{number}]"
            yield from _container(container, place, volumes, names, is_init=field[0] == "i")


def _container(
    container: Object, path: str, volumes: list[str], names: list[str], *, is_init: bool
) -> Iterator[Fault]:
    name = container.get("name", "")
    if name and not LABEL.fullmatch(name):
        yield bad(f"{path}.name", name, LABEL_WORDS)
    if name and name in names:
        yield duplicate(f"{path}.name", name)
    names.append(name)
    if not container.get("image"):
        yield required(f"{path}.image")
    policy = container.get("imagePullPolicy")
    if policy not in ("Always", "IfNotPresent", "Never"):
        yield unsupported(f"{path}.imagePullPolicy", policy, ("Always", "IfNotPresent", "Never"))
    if container.get("restartPolicy") is not None and (
        not is_init or container["restartPolicy"] != "Always"
    ):
        if is_init:
            yield unsupported(f"{path}.restartPolicy", container["restartPolicy"], ("Always",))
        else:
            yield forbidden_field(f"{path}.restartPolicy", "may not be set for non-init containers")
    yield from _container_ports(container, path)
    yield from _environment(container, path)
    yield from _mounts(container, path, volumes)
    yield from _resources(container.get("resources") or {}, f"{path}.resources")
    for field in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = container.get(field)
        if isinstance(probe, dict):
            yield from _probe(probe, f"{path}.{field}", field)


def _environment(container: Object, path: str) -> Iterator[Fault]:
    for number, variable in enumerate(container.get("env") or ()):
        place = f"{path}.env[{number}]"
        if variable.get("name") and not _ENV.fullmatch(variable["name"]):
            yield bad(
                f"{place}.name", variable["name"], "a valid environment variable name expected"
            )
        if variable.get("value") and variable.get("valueFrom"):
            yield bad(f"{place}.valueFrom", "", "may not be specified when `value` is not empty")


def _mounts(container: Object, path: str, volumes: list[str]) -> Iterator[Fault]:
    mounts: list[str] = []
    for number, mount in enumerate(container.get("volumeMounts") or ()):
        place = f"{path}.volumeMounts[{number}]"
        if mount.get("name") not in volumes:
            yield Fault(f"{place}.name", "Not found", "", mount.get("name"), True)
        if mount.get("mountPath") in mounts:
            yield bad(f"{place}.mountPath", mount["mountPath"], "must be unique")
        mounts.append(mount.get("mountPath", ""))


def _container_ports(container: Object, path: str) -> Iterator[Fault]:
    names: list[str] = []
    for number, port in enumerate(container.get("ports") or ()):
        place = f"{path}.ports[{number}]"
        yield from port_number(port.get("containerPort"), f"{place}.containerPort")
        name = port.get("name")
        if name:
            if len(name) > 15 or not _PORT_NAME.fullmatch(name):
                words = (
                    "must be no more than 15 characters"
                    if len(name) > 15
                    else "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"
                )
                yield bad(f"{place}.name", name, words)
            if name in names:
                yield duplicate(f"{place}.name", name)
            names.append(name)
        yield from protocol(port, place)


def port_number(value: Any, path: str) -> Iterator[Fault]:
    if value is not None and not (isinstance(value, int) and 1 <= value <= 65535):
        yield bad(path, value, "must be between 1 and 65535, inclusive")


def protocol(port: Object, path: str) -> Iterator[Fault]:
    if port.get("protocol") not in ("TCP", "UDP", "SCTP"):
        yield unsupported(f"{path}.protocol", port.get("protocol"), ("SCTP", "TCP", "UDP"))


def _probe(probe: Object, path: str, field: str) -> Iterator[Fault]:
    handlers = [h for h in ("exec", "httpGet", "tcpSocket", "grpc") if probe.get(h) is not None]
    if not handlers:
        yield required(path, "must specify a handler type")
    for extra in handlers[1:]:
        yield forbidden_field(f"{path}.{extra}", "may not specify more than 1 handler type")
    if field != "readinessProbe" and probe.get("successThreshold", 1) != 1:
        yield bad(f"{path}.successThreshold", probe["successThreshold"], "must be 1")
    for name in ("httpGet", "tcpSocket", "grpc"):
        port = (probe.get(name) or {}).get("port")
        if isinstance(port, int):
            yield from port_number(port, f"{path}.{name}.port")


def _resources(resources: Object, path: str) -> Iterator[Fault]:
    limits = resources.get("limits") or {}
    for field in ("limits", "requests"):
        for name, amount in (resources.get(field) or {}).items():
            try:
                number = parse_quantity(amount)
                if number < 0:
                    yield bad(
                        f"{path}.{field}.{name}", amount, "must be greater than or equal to 0"
                    )
                elif field == "requests" and number > parse_quantity(limits.get(name, amount)):
                    words = f"must be less than or equal to {name} limit of {limits[name]}"
                    yield bad(f"{path}.requests", amount, words)
            except ValueError as error:
                yield bad(f"{path}.{field}.{name}", amount, str(error))
