"""A filter of system calls: no new processes, no change of any file, no sockets, no way out of the confinement.

Landlock has no rule for permissions, owners and times of files, nor for UDP, and older kernels have no Landlock. The
filter is a program of the kernel's packet filter (`include/uapi/linux/seccomp.h`), which costs nanoseconds a call.
What it refuses fails with EPERM. It lists what is refused: what a C library needs differs from version to version.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import sys
from typing import Final

# Numbers of the calls on x86_64 and aarch64 (asm-generic); None: the architecture does not have it.
_REFUSED: Final[dict[str, tuple[int | None, int | None]]] = {
    # processes, and other processes' memory
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kill": (62, 129), "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424), "setrlimit": (160, 164),
    # files and their attributes
    "creat": (85, None), "unlink": (87, None), "unlinkat": (263, 35), "rename": (82, None), "renameat": (264, 38),
    "renameat2": (316, 276), "mkdir": (83, None), "mkdirat": (258, 34), "rmdir": (84, None), "link": (86, None),
    "linkat": (265, 37), "symlink": (88, None), "symlinkat": (266, 36), "truncate": (76, 45), "ftruncate": (77, 46),
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "lchown": (94, None), "fchown": (93, 55), "fchownat": (260, 54), "mknod": (133, None), "mknodat": (259, 33),
    "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14),
    "lremovexattr": (198, 15), "fremovexattr": (199, 16), "setxattrat": (463, 463), "removexattrat": (466, 466),
    "fallocate": (285, 47), "copy_file_range": (326, 285), "open_by_handle_at": (304, 265),
    "memfd_create": (319, 279),
    # the system
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97),
    "setns": (308, 268), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "mount_setattr": (442, 442), "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89), "quotactl": (179, 60),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "sethostname": (170, 161), "setdomainname": (171, 162),
    # sockets that listen
    "bind": (49, 200), "listen": (50, 201), "accept": (43, 202), "accept4": (288, 242), "socketpair": (53, 199),
}  # fmt: skip
# Newer forms of a call whose arguments a filter cannot see: C libraries use the older form when these do not exist.
_ABSENT: Final = {"clone3": (435, 435), "openat2": (437, 437), "io_uring_setup": (425, 425)}
_CLONE, _OPEN, _OPENAT, _PRLIMIT, _SOCKET = (56, 220), (2, None), (257, 56), (302, 261), (41, 198)
_MACHINES: Final = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # place in the tables, AUDIT_ARCH_...
_CLONE_THREAD: Final = 0x10000
_WRITING: Final = 0o1 | 0o2 | 0o100 | 0o1000 | 0o2000 | 0o20000000  # WRONLY, RDWR, CREAT, TRUNC, APPEND, TMPFILE
_INTERNET: Final = (2, 10)  # AF_INET, AF_INET6

_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000
_KILL: Final = 0x80000000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _MACHINE_AT, _ARGUMENTS_AT = 0, 4, 16
_X32: Final = 0x40000000  # the other interface of x86_64
_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2  # prctl

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, value


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(_Instruction)))


def supported() -> bool:
    """Return whether there is a filter for this machine."""
    return sys.platform == "linux" and platform.machine() in _MACHINES and sys.byteorder == "little"


def restrict(*, network: bool) -> None:
    """Install the filter in this thread and the threads that it starts; with `network`, it may open connections.

    Raises `OSError` where the kernel has no such filters.
    """
    program = instructions(platform.machine(), network=network)
    array = (_Instruction * len(program))(*(_Instruction(*each) for each in program))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    if libc.prctl(_SET_SECCOMP, _FILTER, ctypes.byref(_Program(len(program), array)), 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel has no filters of system calls")


def instructions(machine: str, *, network: bool) -> list[Instruction]:
    """Return the program for a machine."""
    place, audit = _MACHINES[machine]
    refuse = _ERRNO | errno.EPERM
    program: list[Instruction] = [
        (_LOAD, 0, 0, _MACHINE_AT), (_EQUAL, 1, 0, audit), (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT), (_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, refuse),
    ]  # fmt: skip
    for numbers in _REFUSED.values():
        program += _if_called(numbers[place], [(_RETURN, 0, 0, refuse)])
    for numbers in _ABSENT.values():
        program += _if_called(numbers[place], [(_RETURN, 0, 0, _ERRNO | errno.ENOSYS)])
    program += _if_called(_CLONE[place], _unless(0, _ANY_BIT, _CLONE_THREAD))
    for numbers, argument in ((_OPEN, 1), (_OPENAT, 2)):
        program += _if_called(numbers[place], _where(argument, _ANY_BIT, _WRITING))
    program += _if_called(_PRLIMIT[place], _unless(2, _EQUAL, 0))  # reading a limit is allowed
    domains = [(_EQUAL, len(_INTERNET) - index, 0, domain) for index, domain in enumerate(_INTERNET)] if network else []
    program += _if_called(_SOCKET[place], [_argument(0), *domains, (_RETURN, 0, 0, refuse), (_RETURN, 0, 0, _ALLOW)])
    return [*program, (_RETURN, 0, 0, _ALLOW)]


def _if_called(number: int | None, then: list[Instruction]) -> list[Instruction]:
    return [] if number is None else [(_EQUAL, 0, len(then), number), *then]


def _where(argument: int, test: int, value: int) -> list[Instruction]:
    """Refuse where the test of an argument holds, else allow."""
    refuse = _ERRNO | errno.EPERM
    return [_argument(argument), (test, 0, 1, value), (_RETURN, 0, 0, refuse), (_RETURN, 0, 0, _ALLOW)]


def _unless(argument: int, test: int, value: int) -> list[Instruction]:
    """Allow where the test of an argument holds, else refuse."""
    refuse = _ERRNO | errno.EPERM
    return [_argument(argument), (test, 0, 1, value), (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, refuse)]


def _argument(place: int) -> Instruction:
    """Load the lower half of an argument of the call."""
    return _LOAD, 0, 0, _ARGUMENTS_AT + 8 * place
