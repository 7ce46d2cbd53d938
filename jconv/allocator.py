"""The C library's memory allocator, told to keep what is freed."""

from __future__ import annotations

import ctypes
import platform

# glibc's mallopt.h
TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8
MOST_INT = 2**31 - 1


def keep_freed_memory() -> bool:
    """Has the C library keep freed memory for later arrays; whether it could be told so.

    glibc returns large arrays to the system when they are freed, and the next ones are mapped and
    cleared again, page by page. XLA frees a program's temporary memory after every call, so that a
    train step on a CPU does this for all of it. With freed memory kept, and the extension over
    oneDNN, a step took 112 ms instead of 155 for MobileNetV2 (16 images of 96x96 pixels), 178
    instead of 222 for ConvNeXt-T's blocks, and 1010 instead of 1098 for ResNet-18 (64 of 32x32), on
    two cores, without the huge pages that the extension now asks for; the process held up to a
    quarter more memory.

    Call it before JAX is used. It holds for the whole process, which then keeps the most memory
    that it ever had; all threads allocate from one arena. Elsewhere than on Linux with glibc it
    does nothing. The commands call it themselves.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # No array is mapped on its own; what is freed at the end stays; arenas of other threads, which
    # would map arrays of more than 64 MiB all the same, are not made.
    settings = {MMAP_MAX: 0, TRIM_THRESHOLD: MOST_INT, ARENA_MAX: 1}
    taken = [mallopt(parameter, value) for parameter, value in settings.items()]
    return all(taken)
