"""The cluster's names: what Services, EndpointSlices and pods are called, and who asks for them.

`Names` is pure over objects; `NameServer` serves UDP and TCP. The rules that keep clients from
waiting: an existing name without records of the asked type is NOERROR and empty (NXDOMAIN there
kills the whole name on musl); everything unknown is NXDOMAIN at once, never SERVFAIL or silence.
Kubernetes DNS-Based Service Discovery, version 1.1.0.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import struct
from collections.abc import Callable, Iterable
from typing import Any, cast

from mesh.local.api.store import Store
from mesh.local.node.dnspacket import (
    TYPE_A,
    TYPE_AAAA,
    TYPE_ANY,
    TYPE_CNAME,
    TYPE_SRV,
    Answer,
    Code,
    Question,
    Record,
    address_record,
    build,
    cname_record,
    decode_name,
    form_error,
    parse_query,
    ptr_record,
    srv_record,
)
from mesh.local.node.follow import follow

Object = dict[str, Any]
_SERVICE_LABEL = "kubernetes.io/service-name"
_LONGEST_CHAIN = 8
_IDLE = 10.0  # seconds that a TCP client may stay silent

log = logging.getLogger(__name__)


def _endpoint_label(address: str) -> str:
    return address.replace(".", "-").replace(":", "-")


def reverse_name(address: str) -> str:
    """The name in in-addr.arpa or ip6.arpa."""
    return ipaddress.ip_address(address).reverse_pointer


class Names:
    """All names of the cluster at one moment, by lower-case name."""

    def __init__(self, domain: str) -> None:
        self.domain = domain
        self._records: dict[str, list[Record]] = {}

    @classmethod
    def of(cls, domain: str, services: Iterable[Object], slices: Iterable[Object]) -> Names:
        """The names of these Services and of what stands behind the headless ones."""
        made = cls(domain)
        made._exists(domain)
        made._exists(f"svc.{domain}")
        made._exists(f"pod.{domain}")
        by_service: dict[tuple[str, str], list[Object]] = {}
        for slice_ in slices:
            meta = slice_["metadata"]
            owner = (meta.get("labels") or {}).get(_SERVICE_LABEL, "")
            by_service.setdefault((meta["namespace"], owner), []).append(slice_)
        for service in services:
            meta = service["metadata"]
            made._service(service, by_service.get((meta["namespace"], meta["name"]), []))
        return made

    def _exists(self, name: str) -> None:
        """The name exists, and so do all between it and the cluster's domain."""
        while name not in self._records:
            self._records[name] = []
            parent = name.partition(".")[2]
            if parent != self.domain and not parent.endswith("." + self.domain):
                return
            name = parent

    def _add(self, record: Record) -> None:
        self._exists(record.name)
        if record not in self._records[record.name]:
            self._records[record.name].append(record)

    def _service(self, service: Object, slices: list[Object]) -> None:
        meta, spec = service["metadata"], service["spec"]
        name = f"{meta['name']}.{meta['namespace']}.svc.{self.domain}".lower()
        self._exists(name)
        if spec.get("type") == "ExternalName":
            target = str(spec.get("externalName") or "").rstrip(".").lower()
            if target:
                self._add(cname_record(name, target))
            return
        if spec.get("clusterIP") == "None":
            self._headless(name, spec, slices)
            return
        for address in spec.get("clusterIPs") or filter(None, [spec.get("clusterIP")]):
            self._add(address_record(name, address))
            self._records[reverse_name(address)] = [ptr_record(reverse_name(address), name)]
        for port in spec.get("ports") or ():
            self._srv(name, port.get("name"), port.get("protocol"), int(port["port"]), name)

    def _srv(self, name: str, port_name: Any, protocol: Any, port: int, target: str) -> None:
        if port_name:
            owner = f"_{port_name}._{str(protocol or 'TCP').lower()}.{name}".lower()
            self._add(srv_record(owner, target, port))

    def _headless(self, name: str, spec: Object, slices: list[Object]) -> None:
        early = bool(spec.get("publishNotReadyAddresses"))
        for slice_ in slices:
            for endpoint in slice_.get("endpoints") or ():
                conditions = endpoint.get("conditions") or {}
                if conditions.get("ready", True) is False and not early:
                    continue
                for address in endpoint.get("addresses") or ():
                    label = endpoint.get("hostname") or _endpoint_label(address)
                    full = f"{label}.{name}".lower()
                    self._add(address_record(name, address))
                    self._add(address_record(full, address))
                    if endpoint.get("hostname"):
                        back = reverse_name(address)
                        self._records[back] = [ptr_record(back, full)]
                    for port in slice_.get("ports") or ():
                        if port.get("port"):
                            self._srv(
                                name, port.get("name"), port.get("protocol"), port["port"], full
                            )

    def _pod_name(self, name: str) -> Record | None:
        """`10-1-2-3.ns.pod.DOMAIN`, answered without looking at pods."""
        left = name.removesuffix(f".pod.{self.domain}")
        label, _, namespace = left.partition(".")
        if left == name or not namespace or "." in namespace:
            return None
        for separator in (".", ":"):
            with contextlib.suppress(ValueError):
                return address_record(name, label.replace("-", separator))
        return None

    def answer(self, question: Question) -> Answer:
        """The records of a question, and the addresses of SRV targets besides."""
        found = self._records.get(question.name)
        if found is None:
            pod = self._pod_name(question.name)
            if pod is None:
                return Answer(Code.NXDOMAIN)
            found = [pod]
        alias = next((record for record in found if record.type == TYPE_CNAME), None)
        if alias is not None and question.type != TYPE_CNAME:
            return self._through(alias, question.type)
        chosen = tuple(item for item in found if question.type in (item.type, TYPE_ANY))
        additional: list[Record] = []
        done = {record.name for record in chosen}
        for record in chosen:
            if record.type == TYPE_SRV:
                additional += self._addresses_of(decode_name(record.data[6:]), done)
        return Answer(Code.NOERROR, chosen, tuple(additional))

    def _through(self, alias: Record, kind: int) -> Answer:
        """An ExternalName and, where it stays inside the cluster, what it leads to."""
        chain = [alias]
        while len(chain) < _LONGEST_CHAIN:
            found = self._records.get(decode_name(chain[-1].data), [])
            more = next((record for record in found if record.type == TYPE_CNAME), None)
            if more is None:
                return Answer(
                    Code.NOERROR, (*chain, *(item for item in found if item.type == kind))
                )
            chain.append(more)
        return Answer(Code.NOERROR, tuple(chain))

    def _addresses_of(self, target: str, done: set[str]) -> list[Record]:
        if target in done:
            return []
        done.add(target)
        return [
            record for record in self._records.get(target, ()) if record.type in (TYPE_A, TYPE_AAAA)
        ]


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, reply: Callable[[bytes, bool], bytes | None]) -> None:
        self._reply = reply
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        answer = self._reply(data, True)
        if answer is not None and self._transport is not None:
            self._transport.sendto(answer, addr)


class NameServer:
    """Serves the names of a store on port 53 of the given addresses."""

    def __init__(self, store: Store, domain: str) -> None:
        self._store = store
        self._domain = domain
        self._names: Names | None = None

    def names(self) -> Names:
        """The names as of now; built again only after a change."""
        if self._names is None:
            self._names = Names.of(
                self._domain,
                self._store.scan("services"),
                self._store.scan("endpointslices.discovery.k8s.io"),
            )
        return self._names

    def reply(self, packet: bytes, udp: bool) -> bytes | None:
        """The answer to one message, None where silence is right."""
        query = parse_query(packet)
        if query is None:
            return None
        if isinstance(query, int):
            return form_error(query)
        return build(query, self.names().answer(query.question), limit=query.size if udp else 65535)

    async def run(self, addresses: Iterable[str], *, port: int = 53) -> None:
        """Listen and follow the store until cancelled. Raises OSError on a port in use."""
        loop = asyncio.get_running_loop()
        servers: list[asyncio.Server] = []
        transports: list[asyncio.BaseTransport] = []
        try:
            for address in addresses:
                endpoint, _ = await loop.create_datagram_endpoint(
                    lambda: _Udp(self.reply), local_addr=(address, port)
                )
                transports.append(endpoint)
                servers.append(await asyncio.start_server(self._tcp, address, port))
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow("services"))
                group.create_task(self._follow("endpointslices.discovery.k8s.io"))
        finally:
            for transport in transports:
                transport.close()
            for server in servers:
                server.close()

    async def _follow(self, resource: str) -> None:
        await follow(self._store, resource, self._forget)

    def _forget(self, *_: object) -> None:
        self._names = None

    async def _tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                async with asyncio.timeout(_IDLE):
                    (size,) = struct.unpack("!H", await reader.readexactly(2))
                    packet = await reader.readexactly(size)
                answer = self.reply(packet, False)
                if answer is None:
                    return
                writer.write(struct.pack("!H", len(answer)) + answer)
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()
