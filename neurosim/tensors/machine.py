"""The machine and the software that results may depend on."""

import ctypes
import errno
import gc
import os
import platform
import re
from contextlib import suppress
from pathlib import Path

import numpy as np
import simpy
import torch


def describe_machine() -> dict[str, str | int]:
    """Says what numbers depend on besides the program. It does not name the host."""
    return {
        "processor": processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "memory_bytes": memory_bytes(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "simpy": simpy.__version__,
    }


def processor() -> str:
    """Returns the processor's name, where the system tells."""
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        if found := re.search(r"^model name[^:]*:(.*)$", text, re.MULTILINE):
            return found[1].strip()
    return platform.processor() or platform.machine()


def memory_bytes() -> int:
    """Returns the bytes of main memory; 0 where the system does not tell."""
    with suppress(AttributeError, OSError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 0


def keep_memory() -> None:
    """Has the process keep the memory of arrays that are dropped, for those that come.

    By itself the C library hands large arrays back to the system, which clears the pages anew for
    the next ones: a tenth of a step of VGG16. A setting of glibc; elsewhere nothing happens.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(-4, 0)  # M_MMAP_MAX of malloc.h
        library.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def out_of_memory(error: Exception) -> bool:
    """Whether an exception says that there is no memory left. For a CPU torch has no class of it,
    but hands on what the system says."""
    told = os.strerror(errno.ENOMEM) in str(error)
    return told or isinstance(error, MemoryError | torch.OutOfMemoryError)


def reset_peak_memory(device: torch.device) -> None:
    """Lets `peak_memory` count from now on, where the system can.

    What the process keeps of arrays that are gone (`keep_memory`) is handed back first: a run
    would be charged with the one before it.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory(device: torch.device) -> int | None:
    """Returns the most bytes since: of tensors on a GPU, or of the whole process. None where the
    system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    with suppress(OSError):
        status = Path("/proc/self/status").read_text(encoding="ascii")
        if found := re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE):
            return int(found[1]) * 1024
    return None


def device_bytes(device: torch.device) -> int:
    """Returns the bytes of memory of a device; 0 where nobody tells."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    return memory_bytes() if device.type == "cpu" else 0
