"""Documents with their summaries, as lists of sentences."""

from collections.abc import Iterator
from pathlib import Path

from ...data.tables import open_table


def document_rows(path: Path) -> Iterator[tuple[list[str], list[str]]]:
    """Read the sentences of each document, and its summaries.

    Raises:
        ValueError: for a row without `source` or `target`, or where one of them is not a list of texts.
    """
    for place, row in open_table(str(path))[1]:
        missing = [name for name in ("source", "target") if not row.get(name)]
        if missing:
            raise ValueError(f"{place}: no {missing[0]}")
        for name in ("source", "target"):
            if not isinstance(row[name], list) or not all(isinstance(text, str) for text in row[name]):
                raise ValueError(f"{place}: {name} is {row[name]!r:.40}; it must be a list of texts")
        yield row["source"], row["target"]
