"""Questions in the layout of SQuAD, checked before anything is trained on them; what is wrong is named by question."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from transformers.utils import logging

from ..data.text_files import decoded_lines
from .tasks import Task


logger = logging.get_logger(__name__)

_LAYOUT = "not in the layout of SQuAD"


def question_rows(path: Path, task: Task, split: str) -> Iterator[dict[str, Any]]:
    """A row for each question: `id`, `title`, `question`, `context`, `answers` as lists of `text` and `answer_start`.

    Raises:
        ValueError: the file is not in the layout of SQuAD, or a question has no answer where the task knows no such
            questions, an answer that is no text or whose `answer_start` is no position of the context, or, in a split
            that is scored, the id of another question. In one line with file and question.
    """
    try:
        content = json.loads("".join(decoded_lines(str(path))))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    # What can be trained on all the same, with the first question that has it and how many have.
    odd: dict[str, list[str]] = {}
    rows = [_row(place, item, task, odd) for place, item in _questions(content, str(path))]
    if split == "train":
        repeated = _repeated(row["id"] for row in rows)
        odd["the id of another question"] = [f"{path}, question {name!r}" for name in repeated]
    else:
        check_ids((row["id"] for row in rows), str(path))
        odd.pop(_ELSEWHERE, None)
    for what, places in odd.items():
        if places:
            others = f" and {len(places) - 1} more" if len(places) > 1 else ""
            verb = "have" if others else "has"
            logger.warning(f"{places[0]}{others} {verb} {what}")
    yield from rows


def check_ids(ids: Iterable[str], source: str) -> None:
    """
    Raises:
        ValueError: for two questions of one id, of which only one could be scored.
    """
    for name in _repeated(ids):
        raise ValueError(f"{source}, question {name!r}: two questions have this id; it must be of one")


_ELSEWHERE = "an answer that is not at its answer_start; its nearest occurrence is trained on"
_NOWHERE = "an answer that is not in the context"
_IGNORED = "answers, which are not read as is_impossible is true"
_UNSAID = "no answer although is_impossible is false; it is read as a question without answer"


def _questions(content: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each question with its `title` and `context`, and where it stands."""
    for i, article in enumerate(_list(content, "data", path), start=1):
        place = f"{path}, article {i}"
        for j, paragraph in enumerate(_list(article, "paragraphs", place), start=1):
            at = f"{place}, paragraph {j}"
            context, title = _text(paragraph, "context", at), article.get("title")
            for k, question in enumerate(_list(paragraph, "qas", at), start=1):
                name = question.get("id") if isinstance(question, dict) else None
                if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
                    raise ValueError(f"{at}, question {k}: {_LAYOUT} (id is {name!r}; it must be text)")
                yield f"{path}, question {name!r}", {**question, "context": context, "title": title or ""}


def _row(place: str, item: dict[str, Any], task: Task, odd: dict[str, list[str]]) -> dict[str, Any]:
    question, context, impossible = _text(item, "question", place).strip(), item["context"], item.get("is_impossible")
    if not isinstance(impossible, bool | None):
        raise ValueError(f"{place}: is_impossible is {impossible!r}; it must be true or false")
    may_be_unanswerable = task.metric == "squad_v2"
    answers = [] if impossible and item.get("answers") is None else _list(item, "answers", place)
    if not may_be_unanswerable and (impossible or not answers):
        raise ValueError(
            f"{place}: has no answer, and {task.name} has no such questions; --task squad_v2 has, in files named "
            "train-v2.0.json and dev-v2.0.json"
        )
    for answer in answers:
        _check_answer(place, answer, context, odd)
    if impossible and answers:
        odd.setdefault(_IGNORED, []).append(place)
        answers = []
    elif impossible is False and not answers:
        odd.setdefault(_UNSAID, []).append(place)
    return {
        "id": str(item["id"]),
        "title": item["title"],
        "question": question,
        "context": context,
        "answers": {
            "text": [answer["text"] for answer in answers],
            "answer_start": [answer["answer_start"] for answer in answers],
        },
    }


def _check_answer(place: str, answer: Any, context: str, odd: dict[str, list[str]]) -> None:
    text, start = _text(answer, "text", f"{place}, answer"), answer.get("answer_start")
    if not text.strip():
        raise ValueError(f"{place}: text of an answer is {text!r}; a question without answer has answers: []")
    if isinstance(start, bool) or not isinstance(start, int):
        raise ValueError(f"{place}: answer_start is {start!r}; it must be a whole number, without quotation marks")
    if not 0 <= start < len(context):
        begin = f"the character of the context, from 0, at which {text!r:.60} begins"
        raise ValueError(f"{place}: answer_start is {start}; it must be {begin}")
    if text not in context:
        odd.setdefault(_NOWHERE, []).append(place)
    elif not context.startswith(text, start):
        odd.setdefault(_ELSEWHERE, []).append(place)


def _list(content: Any, name: str, place: str) -> list[Any]:
    value = content.get(name) if isinstance(content, dict) else None
    if not isinstance(value, list):
        raise ValueError(f"{place}: {_LAYOUT} ({name} is {_shown(content, name)}; it must be a list)")
    return value


def _text(content: Any, name: str, place: str) -> str:
    value = content.get(name) if isinstance(content, dict) else None
    if not isinstance(value, str):
        raise ValueError(f"{place}: {_LAYOUT} ({name} is {_shown(content, name)}; it must be text)")
    return value


def _shown(content: Any, name: str) -> str:
    return f"{content[name]!r:.40}" if isinstance(content, dict) and name in content else "missing"


def _repeated(ids: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            yield name
        seen.add(name)
