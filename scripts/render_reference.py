"""The generated parts of the documentation: a hook of `mkdocs`, which replaces `{{ name }}` in pages by tables.

What stands in the tables is read from the dataclasses, the argument parser and the shipped recipes whenever the site
is built, so that it cannot differ from them. Only the sources of defaults are written down here.
"""

import argparse
import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any

from transformers import TrainingArguments

from modeling_electra_rtd.cli.main import build_parser
from modeling_electra_rtd.common.recipe_files import configuration_folder
from modeling_electra_rtd.common.training_arguments import ElectraRtdTrainingArguments
from modeling_electra_rtd.finetuning.recipes import KINDS
from modeling_electra_rtd.finetuning.training_args import FinetuningArguments
from modeling_electra_rtd.model.configuration_electra_rtd import ElectraRtdConfig
from modeling_electra_rtd.pretraining.recipes import DataRecipe, ModelRecipe


OURS = "ours"
_PAPER = "ELECTRA, table 6"
_REFERENCE = "reference code"
_LIBRARY = "`transformers`"
# Where the default of a field is from, by section.
SOURCES = {
    "data": {"max_length": _PAPER},
    "model": {
        "discriminator": OURS,
        "objective": "ELECTRA",
        "generator_kind": "ELECTRA",
        "generator_width": _PAPER,
        "generator_depth": _PAPER,
        "generator_feedback": "ELECTRA, section 3.2",
        "mask_probability": _PAPER,
        "mask_token_probability": _REFERENCE,
        "sampling_temperature": _REFERENCE,
        "disallow_correct": _REFERENCE,
        "masking_strategy": "ELECTRA",
        "generator_loss_weight": "ELECTRA, section 3.2",
        "discriminator_loss_weight": "ELECTRA, section 3.2",
        "generator_feedback_weight": "AMOS",
        "embedding_sharing": _REFERENCE,
    },
    "training": {
        "learning_rate": _PAPER,
        "weight_decay": _PAPER,
        "adam_epsilon": _PAPER,
        "warmup_steps": _PAPER,
        "muon_momentum": "`torch`",
    },
    "finetuning": {
        **dict.fromkeys(
            (
                "learning_rate",
                "layerwise_lr_decay",
                "weight_decay",
                "adam_epsilon",
                "warmup_steps",
                "num_train_epochs",
                "max_length",
                "per_device_train_batch_size",
                "swap_pairs",
            ),
            _REFERENCE,
        ),
        "last_layer_exponent": "ELECTRA, section 3.2",
    },
    "task": {},
}
_NOTHING = "none"


def on_page_markdown(markdown: str, page: Any = None, config: Any = None, files: Any = None) -> str:
    """Replace every `{{ name }}` that stands alone in a line by what is rendered for it.

    Raises:
        KeyError: for a name that nothing is rendered for.
    """
    return re.sub(r"^\{\{ (\w+) \}\}$", lambda found: _RENDERED[found[1]](), markdown, flags=re.MULTILINE)


def data_fields() -> str:
    """The table of `DataRecipe`."""
    return _dataclass_table(DataRecipe, _described(DataRecipe, "Attributes"), "data")


def model_fields() -> str:
    """The table of `ModelRecipe`, whose fields of the objective are those of `ElectraRtdConfig`."""
    described = {**_described(ElectraRtdConfig, "Args"), **_described(ModelRecipe, "Attributes")}
    return _dataclass_table(ModelRecipe, described, "model", defaults=_defaults(ElectraRtdConfig))


def training_fields() -> str:
    """The table of what `ElectraRtdTrainingArguments` declares itself."""
    return _arguments_table(ElectraRtdTrainingArguments, "training")


def inherited_training_fields() -> str:
    """The names, types and defaults of what `ElectraRtdTrainingArguments` inherits, folded."""
    own = ElectraRtdTrainingArguments.__annotations__
    hints, defaults = typing.get_type_hints(TrainingArguments), _defaults(TrainingArguments)
    rows = [(f"`{name}`", _type(hints[name]), _value(value)) for name, value in defaults.items() if name not in own]
    table = _table(("field", "type", "default"), rows)
    folded = "\n".join(f"    {line}" for line in table.splitlines())
    return f'??? note "The fields of `TrainingArguments`"\n\n{folded}\n'


def finetuning_fields() -> str:
    """The table of what `FinetuningArguments` declares itself."""
    return _arguments_table(FinetuningArguments, "finetuning")


def task_fields() -> str:
    """The table of the options of all kinds of tasks."""
    kinds: dict[str, list[str]] = {}
    rows: dict[str, tuple[str, ...]] = {}
    for kind, made in KINDS.items():
        hints = typing.get_type_hints(made)
        described = _described(made, "Attributes")
        for name, item in made.options().items():
            kinds.setdefault(name, []).append(kind.replace("_", " "))
            rows[name] = (_type(hints[name]), _value(item.default), described.get(name, ""))
    cells = [(f"`{name}`", ", ".join(kinds[name]), *row) for name, row in rows.items()]
    return _table(("field", "kinds of tasks", "type", "default", "meaning"), cells)


def shipped_recipes() -> str:
    """Every shipped recipe as it is."""
    parts = []
    for kind, command in (("pretrain", "pretrain {}"), ("finetune", "finetune --recipe {} ...")):
        for path in sorted((configuration_folder() / kind).glob("*.yaml")):
            title = f"### `{command.format(path.stem)}`"
            parts.append(f"{title}\n\n```yaml\n{path.read_text(encoding='utf-8').strip()}\n```\n")
    return "\n".join(parts)


def commands() -> str:
    """Every verb with its options."""
    (verbs,) = (action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    return "\n".join(_command(name, parser) for name, parser in verbs.choices.items())


def _command(name: str, parser: argparse.ArgumentParser) -> str:
    rows = []
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or action.dest in ("help", "debug"):
            continue
        given = " / ".join(f"`{option}`" for option in action.option_strings) or f"`{action.metavar or action.dest}`"
        default = action.default
        has_default = action.option_strings and default not in (None, False, [], argparse.SUPPRESS)
        is_required = action.required and action.nargs != "*"
        shown = "required" if is_required else _value(default) if has_default else ""
        choices = f"one of {', '.join(f'`{choice}`' for choice in action.choices)}" if action.choices else ""
        rows.append((given, shown, "; ".join(filter(None, (_line(action.help or ""), choices)))))
    table = _table(("option", "default", "meaning"), rows)
    parts = (f"## `electra-rtd {name}`", _line(parser.description or ""), table, _line(parser.epilog or ""))
    return "\n\n".join(filter(None, parts)) + "\n"


def _dataclass_table(
    owner: type, described: dict[str, str], section: str, defaults: dict[str, Any] | None = None
) -> str:
    hints = typing.get_type_hints(owner)
    defaults = {**_defaults(owner), **{name: value for name, value in (defaults or {}).items()}}
    rows = [
        _row(item.name, hints[item.name], defaults[item.name], described[item.name], section)
        for item in dataclasses.fields(owner)
    ]
    return _table(("field", "type", "default", "source", "meaning"), rows)


def _arguments_table(owner: type, section: str) -> str:
    hints, defaults = typing.get_type_hints(owner), _defaults(owner)
    helps = {item.name: item.metadata.get("help", "") for item in dataclasses.fields(owner)}
    library = "As in `TrainingArguments`."
    rows = [
        _row(
            name,
            hints[name],
            defaults[name],
            library if helps[name] == "See TrainingArguments." else helps[name],
            section,
        )
        for name in owner.__annotations__
    ]
    return _table(("field", "type", "default", "source", "meaning"), rows)


def _row(name: str, annotation: Any, default: Any, meaning: str, section: str) -> tuple[str, ...]:
    return f"`{name}`", _type(annotation), _value(default), SOURCES[section].get(name, OURS), _line(meaning)


def _defaults(owner: type) -> dict[str, Any]:
    """The defaults of a dataclass by field; what a factory makes is what it makes."""
    return {
        item.name: item.default_factory() if item.default is dataclasses.MISSING else item.default
        for item in dataclasses.fields(owner)
        if item.init and (item.default, item.default_factory) != (dataclasses.MISSING, dataclasses.MISSING)
    }


def _described(owner: type, section: str) -> dict[str, str]:
    """What a docstring says of every name in a section: `name: text`, or `name, other: text`, over several lines."""
    lines = inspect.cleandoc(owner.__doc__ or "").splitlines()
    if f"{section}:" not in lines:
        return {}
    found: dict[str, str] = {}
    names: list[str] = []
    for line in lines[lines.index(f"{section}:") + 1 :]:
        if line and not line.startswith(" "):
            break
        entry = re.match(r"    (\w+(?:, \w+)*): (.*)", line)
        if entry:
            names = entry[1].split(", ")
            found |= dict.fromkeys(names, entry[2])
        elif line.strip():
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return found


def _type(annotation: Any) -> str:
    """An annotation in words; the choices of a `Literal` are given in full."""
    origin, members = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        words = dict.fromkeys(_type(member) for member in members if member is not type(None))
        # A field that has the word among its choices takes it for one of them.
        is_choice = any(_NOTHING in typing.get_args(member) for member in members)
        return " or ".join([*words, *([_NOTHING] if type(None) in members and not is_choice else [])])
    if origin is typing.Literal:
        return ", ".join(f"`{choice}`" for choice in members)
    if annotation is type(None):
        return _NOTHING
    if origin is not None:
        return f"{_type(origin)} of {_type(members[0])}" if origin is list else _type(origin)
    return getattr(annotation, "__name__", str(annotation))


def _value(value: Any) -> str:
    if value is None:
        return _NOTHING
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float):
        return f"`{value:g}`"
    if isinstance(value, list | tuple):
        return "`" + " ".join(map(str, value)) + "`"
    return f"`{getattr(value, 'value', value)}`"


def _line(text: str) -> str:
    """A help text in one line; what looks like a tag or a link stays text."""
    parts = " ".join(text.split()).split("`")
    # Every other part is code, where nothing is special.
    parts[::2] = [part.replace("<", "&lt;").replace("[", "\\[") for part in parts[::2]]
    return "`".join(parts)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


_RENDERED: dict[str, Callable[[], str]] = {
    render.__name__: render
    for render in (
        data_fields,
        model_fields,
        training_fields,
        inherited_training_fields,
        finetuning_fields,
        task_fields,
        shipped_recipes,
        commands,
    )
}
