"""The machine a run is on: what it can do, and what a record says of it."""

import ctypes
import os
import platform
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import torch._functorch.config
import transformers
from transformers.utils import logging

from .. import __version__


logger = logging.get_logger(__name__)


def environment() -> dict[str, Any]:
    """What a number was measured on: hardware, versions, commit."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    return {
        "device": device,
        "cpu_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "versions": {
            "electra-rtd": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "commit": _commit(),
    }


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory for the next step instead of returning it to the system.

    Activations and logits of one CPU step are large enough that every one of them is mapped anew and faulted in page
    by page: keeping them is worth a fifth of the speed of a small model (docs/log/speed.md). The price is that memory
    stays at its peak.

    Returns:
        Whether the C library took the settings.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4
    settings = ((m_mmap_max, 0), (m_trim_threshold, 2**31 - 1), (m_top_pad, 2**28))
    return all(mallopt(name, value) == 1 for name, value in settings)


def recompute_for_products() -> bool:
    """Make training steps that are compiled from now on compute again, instead of keeping, what a matrix product of
    the backward pass multiplies, where that is no product itself: activations, norms, casts.

    By itself the compiler keeps all of these, since a product reads them from memory and they are written there
    twice. On a CPU the second writing takes no time that can be seen, and keeping them takes a quarter of a small
    model's memory; with dropout at 0.1 a seventh less memory costs six percent of the time (docs/log/speed.md). On a
    GPU it was not measured.

    Returns:
        Whether this torch has the setting.
    """
    setting = "ban_recompute_materialized_backward"
    if not hasattr(torch._functorch.config, setting):
        return False
    setattr(torch._functorch.config, setting, False)
    return True


def tune_cpu_memory() -> None:
    """What a process that trains on a CPU does about memory, before its first step, and a line where it cannot."""
    if not keep_freed_memory():
        logger.warning_once("this C library cannot keep freed memory: steps are slower (docs/log/speed.md)")
    if not recompute_for_products():
        logger.warning_once("this torch cannot be told to compute activations again: compiled steps take more memory")


def peak_resident_bytes() -> int:
    """The most memory that this process has had so far."""
    status = Path("/proc/self/status")
    if status.is_file():
        # What getrusage says on Linux starts at the size of the process that started this one.
        lines = status.read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def has_compiler() -> bool:
    """Whether `torch.compile` finds the C++ compiler that it needs for a CPU."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++"))


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    folder = Path(__file__).parent
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None if done.returncode == 0 else None
