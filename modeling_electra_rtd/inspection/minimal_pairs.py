"""Pairs of texts of which a model should score one above the other, as BLiMP's of an acceptable and an unacceptable
sentence: how often it does."""

import json
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..common.new_folder import check_new_file, new_file
from ..common.progress import progress_bar
from ..data.documents import read_rows
from .files import file_to_score
from .scores import TextScore, load_scorer, score_texts


@dataclass
class Outcomes:
    """How pairs came out, by the sum over a text's tokens and by their mean.

    The two differ where the texts of a pair differ in length: a sum asks which text is likelier as a whole, and a mean
    does not hold its length against the longer one.

    Attributes:
        pairs: how many.
        wins: by `"sum"` and `"mean"`, pairs whose better text scored higher.
        ties: likewise, pairs whose texts scored alike.
    """

    pairs: int = 0
    wins: dict[str, int] = field(default_factory=lambda: {"sum": 0, "mean": 0})
    ties: dict[str, int] = field(default_factory=lambda: {"sum": 0, "mean": 0})

    def count(self, better: TextScore, worse: TextScore) -> None:
        """Count a pair, both of whose texts have tokens."""
        self.pairs += 1
        # One text read twice, in batches of other lengths, differs in the last digits.
        is_same = better.text == worse.text
        for name, one, other in (("sum", better.total, worse.total), ("mean", better.mean, worse.mean)):
            assert one is not None and other is not None
            self.wins[name] += one > other and not is_same
            self.ties[name] += one == other or is_same

    def accuracy(self, name: str) -> float:
        """Share of wins, a tie counted as half of one: a model that tells nothing apart is at chance."""
        return (self.wins[name] + self.ties[name] / 2) / self.pairs

    def record(self) -> dict[str, Any]:
        """For JSON."""
        accuracies = {f"accuracy_by_{name}": self.accuracy(name) for name in self.wins}
        return {"pairs": self.pairs, **accuracies, **{f"ties_by_{name}": ties for name, ties in self.ties.items()}}


def score_pairs(
    model: str,
    file: str,
    better_column: str,
    worse_column: str,
    group_by: Sequence[str] = (),
    json_file: str | None = None,
    progress: bool = True,
    **arguments: Any,
) -> dict[str, Any]:
    """Score the pairs of a table.

    Args:
        model: any name that `find_model` takes.
        file: a table (`jsonl`, `csv`, `tsv`, `parquet`), also compressed; a pair a row.
        better_column, worse_column: of the texts that should score higher and lower.
        group_by: columns; accuracies are also given for every value of each.
        json_file: a new file for the record; `None` writes none.
        arguments: of `load_scorer`.

    Returns:
        The record: `model`, `file`, `objective`, `score` (its name), `headline` (`sum` or `mean`, which of the two
        that score is), the columns, what `Outcomes.record` gives for all pairs, and the same under
        `groups[column][value]`.

    Raises:
        ValueError: for a model, file, column, output or value that is not allowed, a text without tokens, and a table
            without rows.
    """
    if better_column == worse_column:
        raise ValueError(f"column {better_column!r} cannot be scored against itself")
    if json_file is not None:
        check_new_file(json_file)
    path = file_to_score(file)
    scorer = load_scorer(model, **arguments)
    overall = Outcomes()
    groups: dict[str, dict[str, Outcomes]] = {column: {} for column in group_by}
    rows: deque[dict[str, str]] = deque()

    def texts() -> Iterator[str]:
        for row in read_rows(path, list(dict.fromkeys([better_column, worse_column, *group_by]))):
            rows.append(row)
            yield from (row[better_column], row[worse_column])

    scores = score_texts(scorer, texts())
    with progress_bar("scoring pairs", None, progress) as bar:
        for number, (better, worse) in enumerate(zip(scores, scores, strict=True), start=1):
            row = rows.popleft()
            for column, text in ((better_column, better), (worse_column, worse)):
                if text.total is None:
                    raise ValueError(f"{path}, row {number}: {column} is {text.text!r}, a text without tokens")
            overall.count(better, worse)
            for column, outcomes in groups.items():
                outcomes.setdefault(row[column], Outcomes()).count(better, worse)
            bar.update(len(better.text.encode()) + len(worse.text.encode()))
    if not overall.pairs:
        raise ValueError(f"{path} has no rows")
    record = {
        "model": model,
        "file": file,
        "objective": scorer.objective,
        "score": scorer.score_name,
        "headline": "sum" if scorer.is_sum else "mean",
        "better_column": better_column,
        "worse_column": worse_column,
        **overall.record(),
        "groups": {
            column: {value: outcomes[value].record() for value in sorted(outcomes)}
            for column, outcomes in groups.items()
        },
    }
    if json_file is not None:
        with new_file(json_file) as unfinished:
            Path(unfinished).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return record


def accuracy_rows(record: dict[str, Any]) -> list[tuple[str, str, int, str, str]]:
    """For a table: the group's column and value, pairs, and accuracies in percent by sum and by mean."""
    entries = [("", "all", record)]
    entries += [
        (column, value, entry) for column, values in record["groups"].items() for value, entry in values.items()
    ]
    return [
        (
            column,
            value,
            entry["pairs"],
            f"{entry['accuracy_by_sum']:.1%}",
            f"{entry['accuracy_by_mean']:.1%}",
        )
        for column, value, entry in entries
    ]
