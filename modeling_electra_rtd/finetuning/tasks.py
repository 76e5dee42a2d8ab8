"""The table of tasks. Adding a task is adding a row."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..model.suggestions import nearest


@dataclass(frozen=True)
class SplitFile:
    """Where one split lies in the official folder.

    Attributes:
        names: file names relative to the task's folder; the first that exists is read. Names after the first are parts
            or stand-ins, and the record says so when one was used.
        columns: `column of the task -> header name`, or its position counted from 0 where the file has no header.
            A tuple of names means the first that exists.
    """

    names: tuple[str, ...]
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """One task.

    Examples are rows with the `text_columns`, and by kind:

    - classification: `label`, the position in `labels`, and in test splits -1; regression: `label`, a float.
    - multi_label_classification: `label`, the list of positions in `labels`, which may be empty.
    - tagging: `tokens` (list of strings) is the one text column, `label` a list of positions in `labels`.
    - question_answering: `id`, `question`, `context`, `answers` (`{"text": [...], "answer_start": [...]}`; both empty
      where the question has no answer).
    - multiple_choice: `context`, `question` (may be empty), `choices` (list of strings), `label` (position).
    - summarization and translation: `source` and `target`, strings; `references`, the list of accepted targets.
    - extractive_summarization: `sentences` (list of strings), `references`.

    Attributes:
        name: what `--task` takes.
        kind: which examples, head and loss; a name in `kinds.table.KINDS`.
        text_columns: columns the model reads, in their order.
        labels: names of the classes in the order of their ids; `None` where there are none, or the data says.
        metric: folder of the `evaluate` module below `metrics/`.
        headline: the metric that tables show first and that median and spread are taken of.
        num_train_epochs: from the reference (3; RTE and STS-B 10; question answering 2).
        max_length: positions of an input (reference: 128; question answering 512).
        swap_pairs: train on every pair in both orders too (the reference's `double_unordered`, MRPC and STS-B).
        folder: the task's folder in a `--data-dir` with the official layout; `"."` where there is none of its own.
        files: `train`, `validation`, `test` and further validation splits such as `validation_mismatched`.
        hub_dataset, hub_config: the dataset on the Hub.
        hub_columns: `column of the task -> column on the Hub` where they differ.
        hub_splits: `split of the task -> split on the Hub` where they differ.
        submission: file of test predictions that the task's site takes; `None` where there is none.
        has_broken_lines: whether the official training file is known to hold lines of the wrong width (QQP: questions
            with line breaks), which are then left out with a warning instead of refusing the file.
        submits_names: whether that file holds names of classes rather than their ids.
    """

    name: str
    kind: str
    text_columns: tuple[str, ...]
    labels: tuple[str, ...] | None
    metric: str
    headline: str
    folder: str
    files: dict[str, SplitFile]
    num_train_epochs: float = 3
    max_length: int = 128
    swap_pairs: bool = False
    hub_dataset: str | None = None
    hub_config: str | None = None
    hub_columns: dict[str, str] = field(default_factory=dict)
    hub_splits: dict[str, str] = field(default_factory=dict)
    submission: str | None = None
    submits_names: bool = False
    has_broken_lines: bool = False

    @property
    def validation_splits(self) -> tuple[str, ...]:
        """Names of the splits that results are reported on, the first one leading."""
        return tuple(name for name in self.files if name.startswith("validation"))


def _glue(name: str, folder: str, **row) -> Task:
    defaults = {"kind": "classification", "metric": "classification", "headline": "accuracy"}
    return Task(name=name, folder=folder, hub_dataset="nyu-mll/glue", hub_config=name, **{**defaults, **row})


def _splits(
    columns: Mapping[str, Any],
    train: tuple[str, ...] = ("train.tsv",),
    validation: tuple[str, ...] = ("dev.tsv",),
    test: tuple[str, ...] = ("test.tsv",),
    test_columns: Mapping[str, Any] | None = None,
) -> dict[str, SplitFile]:
    unlabelled = {key: value for key, value in columns.items() if key != "label"}
    return {
        "train": SplitFile(train, columns),
        "validation": SplitFile(validation, columns),
        "test": SplitFile(test, {"index": "index", **(unlabelled if test_columns is None else test_columns)}),
    }


_ENTAILMENT = ("entailment", "not_entailment")
# The order of nyu-mll/glue on the Hub, which published fine-tuned checkpoints follow.
_NLI = ("entailment", "neutral", "contradiction")
_PAIR = {"sentence1": "sentence1", "sentence2": "sentence2"}
_MNLI = {**_PAIR, "label": ("gold_label", "label")}

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        _glue(
            "cola",
            "CoLA",
            text_columns=("sentence",),
            labels=("unacceptable", "acceptable"),
            headline="matthews_correlation",
            files=_splits({"sentence": 3, "label": 1}, test_columns={"sentence": "sentence"}),
            submission="CoLA.tsv",
        ),
        _glue(
            "sst2",
            "SST-2",
            text_columns=("sentence",),
            labels=("negative", "positive"),
            files=_splits({"sentence": "sentence", "label": "label"}),
            submission="SST-2.tsv",
        ),
        _glue(
            "mrpc",
            "MRPC",
            text_columns=("sentence1", "sentence2"),
            labels=("not_equivalent", "equivalent"),
            swap_pairs=True,
            files=_splits(
                {"sentence1": "#1 String", "sentence2": "#2 String", "label": "Quality"},
                test=("test.tsv", "msr_paraphrase_test.txt"),
            ),
            submission="MRPC.tsv",
        ),
        _glue(
            "stsb",
            "STS-B",
            kind="regression",
            text_columns=("sentence1", "sentence2"),
            labels=None,
            metric="correlation",
            headline="spearman",
            num_train_epochs=10,
            swap_pairs=True,
            files=_splits({**_PAIR, "label": "score"}),
            submission="STS-B.tsv",
        ),
        _glue(
            "qqp",
            "QQP",
            text_columns=("question1", "question2"),
            labels=("not_duplicate", "duplicate"),
            files=_splits(
                {"question1": "question1", "question2": "question2", "label": ("is_duplicate", "label")},
                train=("train.tsv", "train_subset10k.tsv"),
                validation=("dev.tsv", "dev_unofficial.tsv"),
            ),
            submission="QQP.tsv",
            has_broken_lines=True,
        ),
        _glue(
            "mnli",
            "MNLI",
            text_columns=("sentence1", "sentence2"),
            labels=_NLI,
            files={
                "train": SplitFile(("train.tsv", "train_subset10k.tsv"), _MNLI),
                "validation": SplitFile(("dev_matched.tsv",), _MNLI),
                "validation_mismatched": SplitFile(("dev_mismatched.tsv",), _MNLI),
                "test": SplitFile(("test_matched.tsv",), {"index": "index", **_PAIR}),
                "test_mismatched": SplitFile(("test_mismatched.tsv",), {"index": "index", **_PAIR}),
            },
            hub_columns={"sentence1": "premise", "sentence2": "hypothesis"},
            hub_splits={"validation": "validation_matched", "test": "test_matched"},
            submission="MNLI-m.tsv",
            submits_names=True,
        ),
        _glue(
            "qnli",
            "QNLI",
            text_columns=("question", "sentence"),
            labels=_ENTAILMENT,
            files=_splits(
                {"question": "question", "sentence": "sentence", "label": "label"},
                train=("train.tsv", "train_subset10k.tsv"),
            ),
            submission="QNLI.tsv",
            submits_names=True,
        ),
        _glue(
            "rte",
            "RTE",
            text_columns=("sentence1", "sentence2"),
            labels=_ENTAILMENT,
            num_train_epochs=10,
            files=_splits({**_PAIR, "label": "label"}),
            submission="RTE.tsv",
            submits_names=True,
        ),
        _glue(
            "wnli",
            "WNLI",
            text_columns=("sentence1", "sentence2"),
            labels=("not_entailment", "entailment"),
            files=_splits({**_PAIR, "label": "label"}),
            submission="WNLI.tsv",
        ),
        # Diagnostics: predicted by the model fine-tuned on MNLI, never trained on.
        _glue(
            "ax",
            "AX",
            text_columns=("sentence1", "sentence2"),
            labels=_NLI,
            files={"test": SplitFile(("diagnostic.tsv",), {"index": "index", **_PAIR})},
            hub_columns={"sentence1": "premise", "sentence2": "hypothesis"},
            submission="AX.tsv",
            submits_names=True,
        ),
        Task(
            name="squad",
            kind="question_answering",
            text_columns=("question", "context"),
            labels=None,
            metric="squad",
            headline="f1",
            num_train_epochs=2,
            max_length=512,
            folder=".",
            files={
                "train": SplitFile(("train-v1.1.json", "train_part-v1.1.json")),
                "validation": SplitFile(("dev-v1.1.json",)),
            },
            hub_dataset="rajpurkar/squad",
        ),
        Task(
            name="squad_v2",
            kind="question_answering",
            text_columns=("question", "context"),
            labels=None,
            metric="squad_v2",
            headline="f1",
            num_train_epochs=2,
            max_length=512,
            folder=".",
            files={
                "train": SplitFile(("train-v2.0.json", "train_part-v2.0.json")),
                "validation": SplitFile(("dev-v2.0.json",)),
            },
            hub_dataset="rajpurkar/squad_v2",
        ),
        Task(
            name="wnut17",
            kind="tagging",
            text_columns=("tokens",),
            labels=None,
            metric="entities",
            headline="f1",
            folder=".",
            files={
                "train": SplitFile(("train.conll",), {"tokens": 0, "label": 1}),
                "validation": SplitFile(("dev.conll",), {"tokens": 0, "label": 1}),
                "test": SplitFile(("test.conll",), {"tokens": 0, "label": 1}),
            },
            hub_dataset="leondz/wnut_17",
            hub_columns={"label": "ner_tags"},
        ),
        Task(
            name="conll2003",
            kind="tagging",
            text_columns=("tokens",),
            labels=None,
            metric="entities",
            headline="f1",
            folder=".",
            files={
                "train": SplitFile(("train.txt", "eng.train"), {"tokens": 0, "label": 3}),
                "validation": SplitFile(("valid.txt", "dev.txt", "eng.testa"), {"tokens": 0, "label": 3}),
                "test": SplitFile(("test.txt", "eng.testb"), {"tokens": 0, "label": 3}),
            },
            hub_dataset="eriktks/conll2003",
            hub_columns={"label": "ner_tags"},
        ),
        Task(
            name="ewt_pos",
            kind="tagging",
            text_columns=("tokens",),
            labels=None,
            metric="tags",
            headline="accuracy",
            folder=".",
            files={
                "train": SplitFile(("train.tsv",), {"tokens": 0, "label": 1}),
                "validation": SplitFile(("dev.tsv",), {"tokens": 0, "label": 1}),
                "test": SplitFile(("test.tsv",), {"tokens": 0, "label": 1}),
            },
        ),
        Task(
            name="swag",
            kind="multiple_choice",
            text_columns=("context", "question", "choices"),
            labels=None,
            metric="classification",
            headline="accuracy",
            folder=".",
            files={
                "train": SplitFile(("train.csv",)),
                "validation": SplitFile(("val.csv",)),
            },
            hub_dataset="allenai/swag",
            hub_config="regular",
        ),
        Task(
            name="scitldr",
            kind="summarization",
            text_columns=("source",),
            labels=None,
            metric="summaries",
            headline="rougeL",
            max_length=512,
            folder=".",
            files={
                "train": SplitFile(("train.jsonl",)),
                "validation": SplitFile(("dev.jsonl",)),
                "test": SplitFile(("test.jsonl",)),
            },
            hub_dataset="allenai/scitldr",
            hub_config="Abstract",
        ),
        Task(
            name="scitldr_extractive",
            kind="extractive_summarization",
            text_columns=("sentences",),
            labels=None,
            metric="summaries",
            headline="rougeL",
            max_length=512,
            folder=".",
            files={
                "train": SplitFile(("train.jsonl",)),
                "validation": SplitFile(("dev.jsonl",)),
                "test": SplitFile(("test.jsonl",)),
            },
            hub_dataset="allenai/scitldr",
            hub_config="Abstract",
        ),
        Task(
            name="multi30k_de_en",
            kind="translation",
            text_columns=("source",),
            labels=None,
            metric="translations",
            headline="bleu",
            folder=".",
            files={
                "train": SplitFile(("train.de",), {"target": "train.en"}),
                "validation": SplitFile(("val.de",), {"target": "val.en"}),
                "test": SplitFile(("test_2016_flickr.de",), {"target": "test_2016_flickr.en"}),
            },
            hub_dataset="bentrevett/multi30k",
            hub_columns={"source": "de", "target": "en"},
        ),
    )
}

# What `--task glue` runs; the diagnostics of AX are predicted with MNLI's model.
GLUE: tuple[str, ...] = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")


def find_task(name: str) -> Task:
    """A row of the table by name; hyphens and upper case are accepted (`SST-2`, `sts-b`).

    Raises:
        ValueError: for an unknown name, with the nearest known one.
    """
    plain = {key.replace("_", ""): key for key in TASKS}
    wanted = name.lower().replace("-", "").replace("_", "")
    if wanted in plain:
        return TASKS[plain[wanted]]
    raise ValueError(f"unknown task {name!r}{nearest(name.lower(), TASKS)}")
