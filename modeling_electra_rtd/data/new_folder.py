"""A folder that appears whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def new_folder(path: str) -> Iterator[str]:
    """Yields an empty hidden folder beside `path` that takes its place when the block ends without an error.

    After an error, Ctrl-C included, nothing is left behind, and what stood at `path` is as it was.

    Raises:
        ValueError: `path` is a file, or a folder that already holds something.
    """
    path = os.path.abspath(path)
    if os.path.exists(path) and (not os.path.isdir(path) or os.listdir(path)):
        raise ValueError(f"output_dir={path!r}: already exists, allowed is a new or an empty folder")
    parent, name = os.path.split(path)
    os.makedirs(parent, exist_ok=True)
    scratch = tempfile.mkdtemp(prefix=f".{name}-", dir=parent)
    try:
        # mkdtemp gives its folder to the owner alone; one made inside it has the permissions the user's umask says.
        unfinished = os.path.join(scratch, name)
        os.mkdir(unfinished)
        yield unfinished
        os.replace(unfinished, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
