"""A password that a server of the stack keeps for life, in a file that only its owner can read."""

import secrets
from pathlib import Path

from headrace.stack.tls import write_private

PASSWORD_BYTES = 16


def kept_password(path: Path) -> str:
    """The password in this file, or a new one, which the file holds from now on; hexadecimal digits."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{path.name}.new")
        write_private(unfinished, secrets.token_hex(PASSWORD_BYTES))
        unfinished.replace(path)
    return path.read_text()
