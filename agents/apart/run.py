"""The process: `python -m agents.apart.run NAME MEMORY_BYTES CPU_S`.

Arguments are JSON on stdin, and one JSON object comes on stdout: `{"result": text}`, `{"refused": text for the model}`
or `{"bug": traceback}`. Nothing at all comes where a limit ended it.
"""

import json
import resource
import sys
import traceback
from collections.abc import Callable
from importlib import import_module

from agents.apart.refused import RefusedError

NAMES = ("csv_query", "json_query", "page_text", "text_diff")


def main(name: str, memory_bytes: int, cpu_s: int) -> None:
    assert name in NAMES
    function: Callable[..., str] = import_module(f"agents.apart.{name}").compute
    _limit(resource.RLIMIT_AS, memory_bytes)
    _limit(resource.RLIMIT_CPU, cpu_s)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    try:
        answer = {"result": function(**json.load(sys.stdin.buffer))}
    except RefusedError as error:
        answer = {"refused": str(error)}
    except (MemoryError, RecursionError) as error:
        answer = {"refused": f"it needs more memory or depth than it may have ({type(error).__name__}): ask for less"}
    except Exception as error:  # noqa: BLE001 - the edge of the process: the caller raises it again
        answer = {"bug": "".join(traceback.format_exception(error))[-4_000:]}
    sys.stdout.buffer.write(json.dumps(answer).encode())


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    most = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (most, most))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
