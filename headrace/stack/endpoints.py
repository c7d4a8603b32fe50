"""`endpoints.json` in the data directory: where a running stack can be reached, for programs that did not start it."""

import os
import re
from pathlib import Path
from typing import Self

import msgspec

from headrace.stack.errors import EndpointsError
from headrace.stack.tls import write_private

FILE_NAME = "endpoints.json"


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses of a stack that is ready, with the passwords that clients need: only its owner can read the file."""

    kafka: str  # bootstrap servers, "host:port" with commas between
    model: str | None = None  # base URL of the simulated model; null when the real one is used
    worker_pids: list[int] = []
    redis: str | msgspec.UnsetType = msgspec.UNSET  # URL
    postgres: str | msgspec.UnsetType = msgspec.UNSET  # URL
    gateway: str | msgspec.UnsetType = msgspec.UNSET  # base URL, where the page is
    pids: dict[str, int] = {}  # of all its processes that run, by their names

    def without_passwords(self) -> Self:
        """What may be shown."""
        shown = {name: _without_password(getattr(self, name)) for name in ("redis", "postgres")}
        return msgspec.structs.replace(self, **shown)


def write_endpoints(data_dir: Path, endpoints: Endpoints) -> Path:
    """Write the file so that a reader sees the old one or the new one, never a part."""
    path = data_dir / FILE_NAME
    unfinished = path.with_name(f".{FILE_NAME}.{os.getpid()}")
    write_private(unfinished, msgspec.json.format(msgspec.json.encode(endpoints), indent=2).decode() + "\n")
    unfinished.replace(path)
    return path


def read_endpoints(data_dir: Path) -> Endpoints:
    """The endpoints of the stack that runs on this directory; raises `EndpointsError` when there is none."""
    path = data_dir / FILE_NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=Endpoints)
    except FileNotFoundError:
        raise EndpointsError(
            f"{path} does not exist: no stack is ready there. Start one with `headrace dev --data-dir {data_dir}`."
        ) from None
    except msgspec.DecodeError as error:
        raise EndpointsError(f"{path} is not what `headrace dev` writes ({error}). Start the stack again.") from error


def remove_endpoints(data_dir: Path) -> None:
    """Remove the file, if there is one: at the end of a stack, and before a start, because kill -9 leaves it behind."""
    (data_dir / FILE_NAME).unlink(missing_ok=True)


def _without_password(url: str | msgspec.UnsetType) -> str | msgspec.UnsetType:
    return url if isinstance(url, msgspec.UnsetType) else re.sub(r"//([^/@:]*):[^/@]*@", r"//\1:***@", url)
