"""The kinds of tasks by name. Adding a kind is adding a class here."""

from .extractive_summarization import ExtractiveSummarization
from .multi_label_classification import MultiLabelClassification
from .multiple_choice import MultipleChoice
from .question_answering import QuestionAnswering
from .sequence_classification import Regression, SequenceClassification
from .sequence_to_sequence import Summarization, Translation
from .tagging import Tagging
from .task_kind import TaskKind


KINDS: dict[str, type[TaskKind]] = {
    kind.name: kind
    for kind in (
        SequenceClassification,
        MultiLabelClassification,
        Regression,
        Tagging,
        QuestionAnswering,
        MultipleChoice,
        ExtractiveSummarization,
        Summarization,
        Translation,
    )
}
