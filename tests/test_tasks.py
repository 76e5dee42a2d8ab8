"""The table of tasks: found by any spelling, whole, and true to the reference."""

import pytest

from modeling_electra_rtd.finetuning.kinds.table import KINDS
from modeling_electra_rtd.finetuning.scoring import metric_folder
from modeling_electra_rtd.finetuning.tasks import GLUE, TASKS, find_task


@pytest.mark.parametrize("name", ["SST-2", "sst2", "STS-B", "squad-v2", "MNLI"])
def test_names_are_found_as_people_write_them(name):
    assert find_task(name).name == {"SST-2": "sst2", "STS-B": "stsb", "squad-v2": "squad_v2"}.get(name, name.lower())


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(ValueError, match="unknown task 'mrcp'; did you mean 'mrpc'"):
        find_task("mrcp")


@pytest.mark.parametrize("name", TASKS)
def test_every_row_is_whole(name):
    task = TASKS[name]
    assert task.name == name and task.kind in KINDS
    assert (metric_folder(task.metric) / f"{task.metric}.py").is_file()
    assert name == "ax" or {"train", "validation"} <= set(task.files)
    assert task.labels is None or len(set(task.labels)) == len(task.labels) >= 2


def test_the_reference_settings():
    # google-research/electra: 3 epochs, RTE and STS-B 10, QA 2; MRPC and STS-B in both orders; 128 positions.
    assert {name for name, task in TASKS.items() if task.num_train_epochs == 10} == {"rte", "stsb"}
    assert {task.num_train_epochs for name, task in TASKS.items() if name.startswith("squad")} == {2}
    assert {name for name, task in TASKS.items() if task.swap_pairs} == {"mrpc", "stsb"}
    assert {TASKS[name].max_length for name in GLUE} == {128}
    assert len(GLUE) == 9
