"""`electra-rtd finetune`."""

import argparse
from pathlib import Path

from .verbs import MODEL, AddVerb


def add_verbs(add: AddVerb) -> None:
    _add_finetune(add)


def _add_finetune(add: AddVerb) -> None:
    sub = add(
        "finetune",
        _finetune,
        "fine-tune on a task, or on your own labelled files; fields of the recipe can follow as --field value",
    )
    sub.add_argument("--task", nargs="+", help="one or more of the table of tasks, or glue for its nine")
    sub.add_argument("--model", required=True, help=f"checkpoint of this package or of stock transformers: {MODEL}")
    sub.add_argument("--output-dir", required=True, help="a new folder for models, predictions, record and table")
    sub.add_argument("--data-dir", help="folder in the task's official layout; by default the Hub is read")
    sub.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="one run each; medians are reported")
    sub.add_argument("--resume", action="store_true", help="keep the seeds that an interrupted run has finished")
    sub.add_argument("--recipe", help="a YAML file (it can also stand alone), or the name of a shipped recipe")
    sub.add_argument("--validation-fraction", type=float, help="make a validation split of this share of train")
    own = sub.add_argument_group("your own task, instead of --task")
    own.add_argument("--train-file", help="csv, tsv, jsonl, parquet, or conll and conllu for tagging")
    own.add_argument("--validation-file", help="the same, to report results on")
    own.add_argument("--test-file", help="the same, to predict")
    own.add_argument("--text-columns", nargs="+", help="one text, or a pair; inferred where it can be told")
    own.add_argument(
        "--label-column",
        nargs="+",
        help="what is predicted; several columns of 0 and 1 are several labels; of conll a name or a number from 0",
    )
    own.add_argument("--token-column", help="of files with a token a line: the words, a name or a number from 0")
    own.add_argument(
        "--kind",
        choices=("classification", "multi_label_classification", "regression", "tagging"),
        help="by default inferred",
    )
    sub.epilog = (
        "Fields of a recipe, as --field value: num_train_epochs, learning_rate, layerwise_lr_decay, max_length, "
        "max_train_samples, from_scratch_seeds, per_device_train_batch_size, early_stopping_patience and all of "
        "TrainingArguments; for one kind of task doc_stride, num_beams, max_target_length and others "
        "(docs/how-to/finetuning.md). Shipped recipes: tiny, small, base, large, reference."
    )
    sub.set_defaults(overrides={})


_OWN_TASK_OPTIONS = ("validation_file", "test_file", "text_columns", "label_column", "token_column", "kind")


def _finetune(arguments: argparse.Namespace) -> None:
    from accelerate import PartialState

    from ..finetuning.own_task import explain, own_task
    from ..finetuning.reading import read_task
    from ..finetuning.recipes import read_finetuning_recipe
    from ..finetuning.run import TABLE, finetune
    from ..finetuning.suite import finetune_set, read_diagnostics
    from ..finetuning.tasks import GLUE, find_task

    if bool(arguments.task) == bool(arguments.train_file):
        raise ValueError("give --task, or --train-file with your own examples, one of them")
    foreign = ("data_dir", "validation_fraction") if arguments.train_file else _OWN_TASK_OPTIONS
    for name in foreign:
        if getattr(arguments, name) is not None:
            raise ValueError(
                f"--{name.replace('_', '-')} goes with {'--task' if arguments.train_file else '--train-file'}"
            )
    values = read_finetuning_recipe(arguments.recipe, arguments.overrides)
    common = (arguments.model, arguments.output_dir, arguments.seeds, values)
    if arguments.train_file:
        task, data = own_task(
            arguments.train_file,
            arguments.validation_file,
            test_file=arguments.test_file,
            text_columns=arguments.text_columns,
            label_column=arguments.label_column,
            kind=arguments.kind,
            token_column=arguments.token_column,
        )
        print(explain(task, data))
        records = [finetune(task, data, *common, resume=arguments.resume)]
    else:
        names = [name for given in arguments.task for name in (GLUE if given == "glue" else [given])]
        tasks = [find_task(name) for name in names]
        for task in tasks:
            if "train" not in task.files:
                raise ValueError(f"{task.name} is not trained on, but predicted by a model for mnli: --task mnli")
        if len(tasks) == 1:
            data = read_task(tasks[0], arguments.data_dir, validation_fraction=arguments.validation_fraction)
            diagnostics = read_diagnostics(arguments.data_dir) if tasks[0].name == "mnli" else None
            records = [finetune(tasks[0], data, *common, resume=arguments.resume, diagnostics=diagnostics)]
        else:
            records = finetune_set(
                tasks,
                *common,
                data_dir=arguments.data_dir,
                resume=arguments.resume,
                skip_missing="glue" in arguments.task,
                validation_fraction=arguments.validation_fraction,
            )
    if not PartialState().is_main_process:
        return
    table = Path(arguments.output_dir) / TABLE
    print(f"\n{table.read_text(encoding='utf-8')}")
    print(f"table in {table}; {len(records)} record(s), models and predictions next to it")
