"""A letter's value, changed by hand."""

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from headrace.dead_letters.errors import NotEditedError

DEFAULT_EDITOR = "vi"


def edit(value: bytes) -> bytes:
    """The value as it is when $VISUAL or $EDITOR ends; only its owner can read the file meanwhile.

    Raises:
        NotEditedError: nothing was changed, or the editor failed.
    """
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or DEFAULT_EDITOR
    with tempfile.TemporaryDirectory(prefix="headrace-edit-") as folder:
        path = Path(folder) / "value.json"
        path.write_bytes(value)
        try:
            command = [*shlex.split(editor), str(path)]
            status = subprocess.run(command, check=False).returncode  # noqa: S603 # The user's own editor.
        except (OSError, ValueError) as error:
            raise NotEditedError(f"the editor `{editor}` did not start ({error}): set EDITOR") from None
        if status != 0:
            raise NotEditedError(f"the editor `{editor}` ended with status {status}: nothing was sent")
        edited = path.read_bytes()
    if edited == value:
        raise NotEditedError("the value was not changed: nothing was sent; without --edit it is sent as it is")
    return edited
