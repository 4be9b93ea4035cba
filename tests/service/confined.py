"""Run a command under what a unit file asks for, without any systemd: python confined.py UNIT HOME [--mdwe] COMMAND...

Done here, by the system calls that systemd makes: an own mount tree (a read-only system, empty /home, /root and /tmp,
only what the unit binds, `/proc` with processes only), own IPC, UTS and user namespaces, no capabilities, no new
privileges, the system call filter, the address families, no namespaces, and on request no memory that is both writable
and executable. HOME stands for `/home/%i`. Needs root and libseccomp. Not done: device and control group rules.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import socket
import subprocess
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
NEWNS, NEWUTS, NEWIPC, NEWUSER = 0x00020000, 0x04000000, 0x08000000, 0x10000000
NAMESPACES = (0x00000080, NEWNS, 0x02000000, NEWUTS, NEWIPC, NEWUSER, 0x20000000, 0x40000000)
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_SET_MDWE = 24, 38, 65
ALLOW, DENY = 0x7FFF0000, 0x00050000 | errno.EPERM
MASKED_EQ, EQ = 7, 4


def main(unit: str, home: str, *command: str) -> None:
    with open(unit) as file:
        lines = file.read().splitlines()
    values = [line.partition("=")[::2] for line in lines if "=" in line and not line.startswith("#")]
    mdwe = command[0] == "--mdwe" or ("MemoryDenyWriteExecute", "yes") in values
    filtered = system_calls([value for key, value in values if key == "SystemCallFilter"])
    readable = [path for key, value in values if key == "BindReadOnlyPaths" for path in value.split()]
    families = next(value for key, value in values if key == "RestrictAddressFamilies").split()
    mounts(home, readable)
    identity()
    check(LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    if mdwe:
        check(LIBC.prctl(PR_SET_MDWE, 1, 0, 0, 0))
    confine(filtered, [getattr(socket, name) for name in families])
    command = command[command[0] == "--mdwe" :]
    os.execvp(command[0], command)  # noqa: S606 - that is what it is for


def check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    words = [word.encode() if word is not None else None for word in (source, target, kind)]
    check(LIBC.mount(*words, ctypes.c_ulong(flags), data.encode() if data else None))


def mounts(home: str, readable: list[str]) -> None:
    """ProtectSystem=strict, ProtectHome=tmpfs, PrivateTmp, BindPaths, BindReadOnlyPaths, ProcSubset=pid."""
    check(LIBC.unshare(NEWNS | NEWUTS | NEWIPC))
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    bound = [(os.open(path, os.O_PATH), path) for path in (home, *readable)]
    for path in ("/home", "/root", "/tmp", "/var/tmp"):  # noqa: S108 - nothing is written there
        mount("tmpfs", path, "tmpfs", 0, "mode=0755")
    for fd, path in bound:
        os.makedirs(path, exist_ok=True)
        mount(f"/proc/self/fd/{fd}", path, None, MS_BIND)
        if path != home:
            mount("none", path, None, MS_REMOUNT | MS_BIND | MS_RDONLY)
        os.close(fd)
    mount("none", "/", None, MS_REMOUNT | MS_BIND | MS_RDONLY)
    for path in ("/home", "/root"):
        mount("none", path, None, MS_REMOUNT | MS_BIND | MS_RDONLY)
    mount("proc", "/proc", "proc", 0, "subset=pid,hidepid=invisible")


def identity() -> None:
    """PrivateUsers, CapabilityBoundingSet: the account it is, and nothing that it could do beyond."""
    check(LIBC.unshare(NEWUSER))
    for name, text in (("uid_map", "0 0 1"), ("setgroups", "deny"), ("gid_map", "0 0 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    for capability in range(41):
        check(LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0))


def system_calls(filters: list[str]) -> set[str]:
    """What is left of an allow list after what is taken out of it."""
    allowed: set[str] = set()
    for words in filters:
        named = {name for word in words.lstrip("~").split() for name in expanded(word)}
        allowed = allowed - named if words.startswith("~") else allowed | named
    return allowed


def expanded(word: str) -> set[str]:
    if not word.startswith("@"):
        return {word}
    shown = subprocess.run(["systemd-analyze", "syscall-filter", word], capture_output=True, text=True, check=True)
    names = re.findall(r"^    (@?\w[\w-]*)$", shown.stdout, re.MULTILINE)
    return {name for inner in names for name in expanded(inner)}


class Compare(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


def confine(allowed: set[str], families: list[int]) -> None:
    """SystemCallFilter, SystemCallErrorNumber=EPERM, RestrictAddressFamilies, RestrictNamespaces."""
    lib = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    lib.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(lib.seccomp_init(DENY))

    def allow(name: str, *rules: Compare) -> None:
        number = lib.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            array = (Compare * len(rules))(*rules)
            check(lib.seccomp_rule_add_array(context, ALLOW, number, len(rules), array))

    for name in allowed - {"socket", "clone", "clone3", "unshare", "setns"}:
        allow(name)
    for family in families:
        allow("socket", Compare(0, EQ, family, 0))
    mask = sum(NAMESPACES)
    allow("clone", Compare(0, MASKED_EQ, mask, 0))
    # As systemd does it: what is in a structure cannot be looked at, and a C library that is told ENOSYS takes clone.
    number = lib.seccomp_syscall_resolve_name(b"clone3")
    check(lib.seccomp_rule_add_array(context, 0x00050000 | errno.ENOSYS, number, 0, (Compare * 0)()))
    check(lib.seccomp_load(context))


if __name__ == "__main__":
    main(*sys.argv[1:])
