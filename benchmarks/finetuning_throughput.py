"""Fine-tuning here against the usual example recipe: examples per second, at equal quality.

Usual: the stock `Trainer`, every row padded to the maximum length, 32-bit floats, batches in random order. Here
(`electra-rtd finetune`): rows of like length together, padded to their own longest, bf16 where it is native. Model,
seeds, rates, warm-up, batch size and epochs are the same, and runs alternate, so that a noisy machine hits both.

    python benchmarks/finetuning_throughput.py --model runs/tiny-release --data-dir glue --tasks mrpc sst2
"""

import argparse
import statistics
import tempfile
import time
from typing import Any

import transformers
from records import write_record
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

from modeling_electra_rtd.data.tokenization import load_tokenizer
from modeling_electra_rtd.finetuning.kinds.sequence_classification import SequenceClassification
from modeling_electra_rtd.finetuning.reading import TaskData, read_task
from modeling_electra_rtd.finetuning.run import finetune
from modeling_electra_rtd.finetuning.tasks import Task, find_task
from modeling_electra_rtd.finetuning.training_args import FinetuningArguments


def usual_recipe(task: Task, data: TaskData, model: str, seed: int, values: dict[str, Any]) -> tuple[float, float]:
    """Examples per second of training, and the headline metric, of the recipe that examples show."""
    tokenizer = load_tokenizer(model)
    kind = SequenceClassification(task, data.labels, tokenizer, task.max_length)
    splits = {}
    for split in ("train", "validation"):
        examples = data.splits[split]
        if split == "train" and values["max_train_samples"] < len(examples):
            examples = examples.shuffle(seed=0).select(range(values["max_train_samples"]))
        splits[split] = kind.features(examples, training=split == "train").remove_columns("length")
    transformers.set_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            learning_rate=values["learning_rate"],
            num_train_epochs=values["num_train_epochs"],
            per_device_train_batch_size=32,
            per_device_eval_batch_size=64,
            weight_decay=0.01,
            warmup_steps=0.1,
            save_strategy="no",
            report_to="none",
            seed=seed,
            use_cpu=not transformers.utils.is_torch_cuda_available(),
            disable_tqdm=True,
        )
        network = kind.load_model(model)
        # The known trap of stock heads does not bite without accumulation; see finetuning/trainer.py.
        trainer = Trainer(
            network,
            arguments,
            train_dataset=splits["train"],
            data_collator=DataCollatorWithPadding(tokenizer, padding="max_length", max_length=task.max_length),
        )
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
        outputs = trainer.predict(splits["validation"].remove_columns("labels")).predictions
    predictions = kind.predictions(outputs, splits["validation"], data.splits["validation"])
    score = kind.metrics(predictions, data.splits["validation"])[task.headline]
    return values["num_train_epochs"] * len(splits["train"]) / seconds, score


def ours(task: Task, data: TaskData, model: str, seed: int, values: dict[str, Any]) -> tuple[float, float]:
    """The same of `electra-rtd finetune`."""
    with tempfile.TemporaryDirectory() as folder:
        options = {
            **values,
            "from_scratch_seeds": 0,
            "eval_strategy": "no",
            "swap_pairs": False,
            "layerwise_lr_decay": 1.0,
            "disable_tqdm": True,
        }
        run = finetune(task, data, model, folder, [seed], options)["fine_tuned"]["runs"][0]
    return run["training_examples_per_second"], run["metrics"]["validation"][task.headline]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", required=True, help="checkpoint folder or Hub id")
    parser.add_argument("--data-dir", help="GLUE in its official layout; by default the Hub is read")
    parser.add_argument("--tasks", nargs="+", default=["mrpc", "sst2"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--max-train-samples", type=int, default=4000)
    parser.add_argument("--num-train-epochs", type=float, default=1)
    parser.add_argument("--learning-rate", type=float, default=FinetuningArguments.learning_rate)
    parser.add_argument("--json", metavar="FILE", help="write the record here as well")
    arguments = parser.parse_args()
    values = {
        "max_train_samples": arguments.max_train_samples,
        "num_train_epochs": arguments.num_train_epochs,
        "learning_rate": arguments.learning_rate,
    }
    records = []
    for name in arguments.tasks:
        task = find_task(name)
        data = read_task(task, arguments.data_dir)
        runs = [
            (usual_recipe(task, data, arguments.model, seed, values), ours(task, data, arguments.model, seed, values))
            for seed in arguments.seeds
        ]
        record = {"task": task.name, "headline": task.headline}
        for number, recipe in enumerate(("usual", "ours")):
            record[recipe] = {
                "examples_per_second": statistics.median(run[number][0] for run in runs),
                task.headline: statistics.median(run[number][1] for run in runs),
                "runs": [run[number] for run in runs],
            }
        record["ratio"] = statistics.median(here[0] / usual[0] for usual, here in runs)
        records.append(record)
    print("| task | usual: examples/s | here: examples/s | ratio | metric | usual | here |")
    print("|---|---|---|---|---|---|---|")
    for record in records:
        usual, here, metric = record["usual"], record["ours"], record["headline"]
        print(
            f"| {record['task']} | {usual['examples_per_second']:.0f} | {here['examples_per_second']:.0f} "
            f"| {record['ratio']:.1f} | {metric} | {usual[metric]:.3f} | {here[metric]:.3f} |"
        )
    write_record(arguments, tasks=records)


if __name__ == "__main__":
    main()
