"""One process at a time in a folder: a lock that a process which has died does not hold."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers.utils import logging


try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.get_logger(__name__)


@contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made where it is missing, until the block ends or this process dies.

    The system's lock of the folder itself is taken, so no file is left in it. File systems without such locks (some
    of those that lie on other machines) and Windows go without, which a warning says.

    Raises:
        ValueError: if a process that is alive holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        logger.warning_once(f"{folder}: this system locks no folders; no second process may use it")
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{folder} is used by another process that is alive; wait for it, or stop it") from None
        except OSError as error:
            logger.warning(f"{folder}: cannot be locked ({error.strerror}); no second process may use it")
        yield
    finally:
        # Also gives the lock back.
        os.close(descriptor)
