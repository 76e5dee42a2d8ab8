"""The progress bar of everything that reads files."""

from tqdm.auto import tqdm


def progress_bar(title: str, total: int | None, progress: bool) -> tqdm:
    """A progress bar that counts bytes; `total` None: nobody knows how many, `progress` False: invisible."""
    return tqdm(desc=title, total=total, unit="B", unit_scale=True, disable=not progress)
