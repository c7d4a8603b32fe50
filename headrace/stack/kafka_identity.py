"""Which cluster a data directory holds, and on which ports it was last reached."""

import base64
import uuid
from pathlib import Path

import msgspec

from headrace.stack.errors import KafkaStartError
from headrace.stack.kafka_config import Ports
from headrace.stack.ports import LOOPBACK, free_port, is_free


class Identity(msgspec.Struct, frozen=True):
    """What a broker keeps for life, in `broker.json`; the ports as long as nobody else takes them."""

    cluster_id: str
    ports: Ports


def load_identity(home: Path, fixed_port: int | None) -> Identity:
    """The identity kept in this folder, or a new one, with ports that are free now."""
    path = home / "broker.json"
    if path.exists():
        kept = msgspec.json.decode(path.read_bytes(), type=Identity)
    else:
        kept = Identity(new_cluster_id(), Ports(0, 0, 0))
    identity = Identity(kept.cluster_id, _choose_ports(kept.ports, fixed_port))
    unfinished = path.with_suffix(".new")
    unfinished.write_bytes(msgspec.json.encode(identity))
    unfinished.replace(path)
    return identity


def new_cluster_id() -> str:
    """A random id as Kafka writes them: 16 bytes in URL-safe base 64 without padding."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        # The storage tool would take it for an option.
        if not text.startswith("-"):
            return text


def _choose_ports(kept: Ports, fixed_port: int | None) -> Ports:
    chosen: list[int] = []
    for wanted in (fixed_port or kept.plain, kept.controller, kept.secure):
        usable = wanted and wanted not in chosen and is_free(wanted)
        chosen.append(wanted if usable else free_port())
    if fixed_port and chosen[0] != fixed_port:
        raise KafkaStartError(f"port {fixed_port} of {LOOPBACK} is taken: stop its user, or choose another")
    return Ports(*chosen)
