"""The generated reference: every field and option is in it, with what the code says, and nothing else is."""

import argparse
import dataclasses
import importlib.util
import re

import pytest
from helpers.documentation import ROOT

from modeling_electra_rtd.cli.main import build_parser
from modeling_electra_rtd.common.training_arguments import ElectraRtdTrainingArguments
from modeling_electra_rtd.finetuning.training_args import FinetuningArguments
from modeling_electra_rtd.model.configuration_electra_rtd import OBJECTIVE_FIELDS, ElectraRtdConfig
from modeling_electra_rtd.pretraining.recipes import DataRecipe, ModelRecipe


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("render_reference", ROOT / "scripts" / "render_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows_of(table: str) -> dict[str, list[str]]:
    """First cell without its backticks -> the other cells."""
    rows = [re.split(r"(?<!\\) ?\| ?", line.strip())[1:-1] for line in table.splitlines() if line.startswith("| `")]
    assert len({row[0] for row in rows}) == len(rows)
    return {row[0].strip("`"): row[1:] for row in rows}


def test_every_field_of_a_recipe_is_there_with_type_default_and_source(script):
    for render, owner in (
        (script.data_fields, DataRecipe),
        (script.model_fields, ModelRecipe),
        (script.training_fields, ElectraRtdTrainingArguments),
        (script.finetuning_fields, FinetuningArguments),
    ):
        rows = rows_of(render())
        # Fields of objectives come from a base; those of `TrainingArguments` have a table of their own.
        is_model = owner is ModelRecipe
        names = [field.name for field in dataclasses.fields(owner)] if is_model else owner.__annotations__
        assert set(rows) == set(names)
        for name, cells in rows.items():
            assert len(cells) == 4 and all(cells), name


def test_fields_by_hand(script):
    data, model, training = (
        rows_of(render()) for render in (script.data_fields, script.model_fields, script.training_fields)
    )
    assert data["dataset_split"][:2] == ["str", "`train`"]
    assert data["corpus"][:2] == ["list of str or none", "none"]
    assert data["dataset_name"][3] == data["dataset"][3]
    assert model["mask_probability"][:3] == ["float or none", "`0.15`", "ELECTRA, table 6"]
    assert model["generator_feedback"][0] == "`none`, `reinforce`, `gumbel_softmax`"
    assert training["learning_rate"][:3] == ["float", "`0.0005`", "ELECTRA, table 6"]
    assert training["health_checks"][1] == "`true`"


def test_defaults_of_the_objective_are_those_of_the_config(script):
    rows = rows_of(script.model_fields())
    defaults = {item.name: item.default for item in dataclasses.fields(ElectraRtdConfig)}
    shared = [name for name in OBJECTIVE_FIELDS if name in rows]
    assert len(shared) > 10
    for name in shared:
        shown = rows[name][1].strip("`")
        assert shown in (
            str(defaults[name]).lower(),
            f"{defaults[name]:g}" if not isinstance(defaults[name], str) else "",
        )


def test_sources_name_fields_that_exist(script):
    sections = {
        "data": script.data_fields,
        "model": script.model_fields,
        "training": script.training_fields,
        "finetuning": script.finetuning_fields,
        "task": script.task_fields,
    }
    assert script.SOURCES.keys() == sections.keys()
    for section, render in sections.items():
        assert set(script.SOURCES[section]) <= set(rows_of(render())), section


def test_inherited_fields_are_those_that_are_not_our_own(script):
    table = "\n".join(line.strip() for line in script.inherited_training_fields().splitlines())
    names = {item.name for item in dataclasses.fields(ElectraRtdTrainingArguments) if item.init}
    assert set(rows_of(table)) == names - set(ElectraRtdTrainingArguments.__annotations__)


def test_every_verb_and_option_is_there(script):
    text = script.commands()
    (verbs,) = (action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    assert re.findall(r"^## `electra-rtd (\w+)`$", text, re.MULTILINE) == list(verbs.choices)
    for name, parser in verbs.choices.items():
        section = text.partition(f"## `electra-rtd {name}`\n")[2].partition("\n## ")[0]
        for action in parser._actions:
            if action.dest not in ("help", "debug"):
                shown = action.option_strings[0] if action.option_strings else action.dest
                assert f"`{shown}`" in section, (name, shown)


def test_every_shipped_recipe_is_there_as_it_is(script):
    text = script.shipped_recipes()
    for path in (ROOT / "configuration").glob("*e*/*.yaml"):
        if path.parent.name in ("pretrain", "finetune"):
            assert path.read_text(encoding="utf-8").strip() in text, path


def test_a_placeholder_without_a_table_is_an_error(script):
    page = script.on_page_markdown("before\n\n{{ data_fields }}\n\nafter")
    assert page.startswith("before\n\n| field | type |") and page.endswith("|\n\nafter")
    with pytest.raises(KeyError):
        script.on_page_markdown("{{ no_such_table }}")
