"""What a service port speaks: declared by annotation, appProtocol or name, else detected. Pure.

Order: the opaque-ports annotation of the Service, or else of its namespace; appProtocol; the
port's name (`grpc`, `http-admin`: Istio's habit, which Linkerd's users share). An unknown
appProtocol leaves the port to detection, since forwarding it unread would lose its metrics.
"""

from __future__ import annotations

from typing import Final

from destination.facts import Namespace, ServiceFacts, ServicePort
from mesh.core.model import Protocol

# kubernetes.io/* are KEP-3726's names, linkerd.io/* Linkerd's, the rest IANA's or common.
_APP_PROTOCOLS: Final = {
    "http": Protocol.HTTP1,
    "http/1.1": Protocol.HTTP1,
    "http1": Protocol.HTTP1,
    "kubernetes.io/ws": Protocol.HTTP1,
    "ws": Protocol.HTTP1,
    "grpc-web": Protocol.HTTP1,
    "http2": Protocol.HTTP2,
    "h2c": Protocol.HTTP2,
    "kubernetes.io/h2c": Protocol.HTTP2,
    "grpc": Protocol.GRPC,
    "kubernetes.io/grpc": Protocol.GRPC,
    "https": Protocol.TLS,
    "tls": Protocol.TLS,
    "wss": Protocol.TLS,
    "kubernetes.io/wss": Protocol.TLS,
    "tcp": Protocol.OPAQUE,
    "linkerd.io/tcp": Protocol.OPAQUE,
    "linkerd.io/opaque": Protocol.OPAQUE,
    "mongo": Protocol.OPAQUE,
    "mongodb": Protocol.OPAQUE,
    "mysql": Protocol.OPAQUE,
    "postgres": Protocol.OPAQUE,
    "postgresql": Protocol.OPAQUE,
    "redis": Protocol.OPAQUE,
    "smtp": Protocol.OPAQUE,
    "memcache": Protocol.OPAQUE,
    "memcached": Protocol.OPAQUE,
    "amqp": Protocol.OPAQUE,
    "kafka": Protocol.OPAQUE,
}
# A port's name counts up to its first dash; `grpc-web` is the one exception.
_NAME_PREFIXES: Final = frozenset(
    ("http", "http2", "https", "grpc", "tls", "tcp", "mongo", "mysql", "redis")
)


def port_protocol(
    port: ServicePort, service: ServiceFacts, namespace: Namespace | None
) -> Protocol:
    """The protocol declared for one port of a Service."""
    opaque = service.opaque
    if opaque is None and namespace is not None:
        opaque = namespace.opaque
    if opaque is not None and opaque.has(port.number, port.name):
        return Protocol.OPAQUE
    if port.app_protocol:
        return _APP_PROTOCOLS.get(port.app_protocol.lower(), Protocol.DETECT)
    name = port.name.lower()
    if name == "grpc-web" or name.startswith("grpc-web-"):
        return Protocol.HTTP1
    prefix = name.partition("-")[0]
    return _APP_PROTOCOLS[prefix] if prefix in _NAME_PREFIXES else Protocol.DETECT
