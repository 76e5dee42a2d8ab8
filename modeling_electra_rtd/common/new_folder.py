"""A folder, or a file, that appears whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def new_folder(path: str) -> Iterator[str]:
    """Yield an empty hidden folder next to `path` that takes its place when the block ends without an error.

    After an error, Ctrl-C included, nothing is left behind, and what stood at `path` is as it was.

    Raises:
        ValueError: `path` is a file, or a folder that already holds something.
    """
    path = os.path.abspath(path)
    if os.path.exists(path) and (not os.path.isdir(path) or os.listdir(path)):
        raise ValueError(f"output_dir is {path!r}, which already exists; it must be a new or an empty folder")
    with _beside(path) as unfinished:
        # mkdtemp gives its folder to the owner alone; one made inside it has the permissions the user's umask says.
        os.mkdir(unfinished)
        yield unfinished
        os.replace(unfinished, path)


@contextmanager
def new_file(path: str) -> Iterator[str]:
    """Yield where to write a file that takes its place at `path` when the block ends without an error; as
    `new_folder`.

    Raises:
        ValueError: `path` exists.
    """
    check_new_file(path)
    path = os.path.abspath(path)
    with _beside(path) as unfinished:
        yield unfinished
        os.replace(unfinished, path)


def check_new_file(path: str) -> None:
    """
    Raises:
        ValueError: if there is something at `path`.
    """
    if os.path.lexists(path):
        raise ValueError(f"output is {path!r}, which already exists; it must be a new file")


@contextmanager
def _beside(path: str) -> Iterator[str]:
    parent, name = os.path.split(path)
    os.makedirs(parent, exist_ok=True)
    scratch = tempfile.mkdtemp(prefix=f".{name}-", dir=parent)
    try:
        yield os.path.join(scratch, name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
