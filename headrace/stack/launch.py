"""Becomes another program that the kernel kills when the program's parent dies.

Run as a script, `python launch.py PARENT_PID PROGRAM ARGUMENT…`, and not as a hook between fork and exec: such a hook
may hang in a process that has threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
CANNOT_EXECUTE = 127


def main() -> None:
    """Ask for the signal, look whether the parent died before that, execute the program."""
    parent_pid, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent_pid:
            sys.exit(0)
    try:
        os.execvp(program[0], program)  # noqa: S606 - the program is the caller's choice
    except OSError as error:
        sys.stderr.write(f"cannot execute {program[0]}: {error.strerror}\n")
        sys.exit(CANNOT_EXECUTE)


if __name__ == "__main__":
    main()
