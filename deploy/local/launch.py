"""Becomes another program, after tying its life to the parent's: `launch.py PARENT_PID SIGNAL USER -- ARGV`.

Run as a script by `deploy.local.process`. On Linux the kernel sends SIGNAL to the program when the thread
that started it ends, however it ends, kill -9 included. USER is `-`, or the account to become: PostgreSQL
refuses to run as root, so under root it runs as another account that keeps one right of root's, to pass
folders closed to it (a project below /root, a clone in a private temporary folder). Nothing's mode changes.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 47, 2
_CAP_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE = 1


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def main(arguments: list[str]) -> None:
    """Replace this process by the program; returns only when that fails (SystemExit)."""
    parent, death_signal, user, _, *command = arguments
    if user != "-":
        _become(user)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != int(parent):  # it died before the kernel was told to watch it
            raise SystemExit(128 + signal.SIGKILL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        raise SystemExit(f"cannot run {command[0]}: {error.strerror}") from None


def _become(user: str) -> None:
    account = pwd.getpwnam(user)
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    if libc is not None:
        libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    if libc is not None:
        # A container may have taken this right away; then folders must be open, and the program says which is not.
        bit = 1 << _CAP_DAC_OVERRIDE
        sets = (_CapData * 2)(_CapData(bit, bit, bit), _CapData(0, 0, 0))
        libc.capset(ctypes.byref(_CapHeader(_CAP_VERSION_3, 0)), ctypes.byref(sets))
        libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)


if __name__ == "__main__":
    main(sys.argv[1:])
