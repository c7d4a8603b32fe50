"""Becomes another program that the kernel kills when the program's parent dies.

Run as a script, `python launch.py PARENT_PID USER PROGRAM ARGUMENT…`, and not as a hook between fork and exec: such a
hook may hang in a process that has threads. USER is the name of the user to become; where it is empty, it stays who it
is. PROGRAM is a path where USER is given: to look for it takes Python's own folders, which that user may not enter.
"""

import ctypes
import os
import pwd
import signal
import sys

PR_SET_PDEATHSIG = 1
CANNOT_EXECUTE = 127


def main() -> None:
    """Become the user, ask for the signal, look whether the parent died before that, execute the program."""
    parent_pid, user, program = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    if user:
        _become(user)
    # After the change of user, which the kernel takes for a reason to forget the signal.
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent_pid:
            sys.exit(0)
    try:
        os.execvp(program[0], program)  # noqa: S606 - the program is the caller's choice
    except OSError as error:
        _fail(f"cannot execute {program[0]}: {error.strerror}")


def _become(user: str) -> None:
    try:
        account = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    except KeyError:
        _fail(f"there is no user {user} on this machine")
    except OSError as error:
        _fail(f"cannot become the user {user}: {error.strerror}")


def _fail(why: str) -> None:
    sys.stderr.write(f"{why}\n")
    sys.exit(CANNOT_EXECUTE)


if __name__ == "__main__":
    main()
