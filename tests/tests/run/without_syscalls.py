"""Runs a program on a machine whose kernel refuses system calls, as the file system of a network mount would.

    without_syscalls.py link=EPERM flock=ENOLCK -- program argument...

A filter (seccomp) does it, so neither the program nor the folder has to be changed, and no right is needed.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

NUMBERS = {
    "x86_64": {"link": [86, 265], "flock": [73]},
    "aarch64": {"link": [37], "flock": [32]},
}[platform.machine()]

LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000
NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER = 38, 22, 2


def instruction(code, if_true, if_false, value):
    return struct.pack("HBBI", code, if_true, if_false, value)


def main():
    end = sys.argv.index("--")
    program = [instruction(LOAD, 0, 0, 0)]  # the number of the call
    for refused in sys.argv[1:end]:
        name, error = refused.split("=")
        for number in NUMBERS[name]:
            program.append(instruction(EQUAL, 0, 1, number))
            program.append(instruction(RETURN, 0, 0, REFUSE | getattr(errno, error)))
    program.append(instruction(RETURN, 0, 0, ALLOW))
    code = ctypes.create_string_buffer(b"".join(program))
    filters = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in [(NO_NEW_PRIVILEGES, 1, 0, 0, 0), (SET_SECCOMP, FILTER, filters, 0, 0)]:
        if libc.prctl(*call) != 0:
            sys.exit(f"prctl{call[:2]}: {os.strerror(ctypes.get_errno())}")
    os.execv(sys.argv[end + 1], sys.argv[end + 1 :])


main()
