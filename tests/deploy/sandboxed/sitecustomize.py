"""Puts a Python process, and all that it starts, under the kernel's part of the systemd unit.

Python imports a module of this name when it starts, from the folder that PYTHONPATH names.  The environment
variable SANDBOX holds, as JSON: `calls` (system calls allowed), `families` (address families allowed).
What is not allowed fails with EPERM, as the unit has it.  It needs libseccomp, which systemd itself needs.
"""

import ctypes
import json
import os

PR_SET_NO_NEW_PRIVS = 38
ALLOW, ERRNO_EPERM = 0x7FFF0000, 0x00050000 | 1
EQ, MASKED_EQ = 4, 7
PROT_WRITE, PROT_EXEC = 2, 4


class Comparison(ctypes.Structure):
    """One argument of a system call, compared."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


def enter(calls: list[str], families: list[int]) -> None:
    """Give up new privileges, every call but `calls`, sockets but of `families`, memory that is written and run."""
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(ERRNO_EPERM)))

    def allow(name: str, *comparisons: Comparison) -> None:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number == -1:  # not a call of this kernel's
            return
        array = (Comparison * len(comparisons))(*comparisons)
        done = library.seccomp_rule_add_array(
            context, ctypes.c_uint32(ALLOW), number, len(comparisons), array
        )
        if done != 0:
            raise OSError(-done, f"seccomp: {name}")

    special = {"socket", "mmap", "mprotect", "pkey_mprotect"}
    for name in calls:
        if name not in special:
            allow(name)
    for family in families:
        allow("socket", Comparison(0, EQ, family, 0))
    for protection in (0, PROT_WRITE, PROT_EXEC):  # never both
        allow("mmap", Comparison(2, MASKED_EQ, PROT_WRITE | PROT_EXEC, protection))
    for name in ("mprotect", "pkey_mprotect"):
        allow(name, Comparison(2, MASKED_EQ, PROT_EXEC, 0))
    if ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or library.seccomp_load(context):
        raise OSError("the filter cannot be loaded")


if "SANDBOX" in os.environ:
    enter(**json.loads(os.environ["SANDBOX"]))
