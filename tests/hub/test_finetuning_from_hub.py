"""Tasks and checkpoints read from a Hub over HTTP by the real clients, in a process with an empty cache."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, Sequence, Value
from helpers.finetuning import checkpoint
from helpers.hub_server import HubServer


LABELS = {
    "cola": ["unacceptable", "acceptable"],
    "mnli": ["entailment", "neutral", "contradiction"],
    "ax": ["entailment", "neutral", "contradiction"],
}
SPLITS = {
    "cola": ["train", "validation", "test"],
    "mnli": ["train", "validation_matched", "validation_mismatched", "test_matched", "test_mismatched"],
    "ax": ["test"],
}


def parquet(rows: dict[str, list], features: Features, folder: Path) -> bytes:
    path = folder / "part.parquet"
    Dataset.from_dict(rows, features=features).to_parquet(str(path))
    return path.read_bytes()


def glue(folder: Path) -> dict[str, bytes]:
    """Files and features as nyu-mll/glue has them: labels are classes, -1 in test splits, and rows have an `idx`."""
    files, configs = {}, []
    for name, splits in SPLITS.items():
        texts = ["sentence"] if name == "cola" else ["premise", "hypothesis"]
        features = {text: Value("string") for text in texts}
        features |= {"label": ClassLabel(names=LABELS[name]), "idx": Value("int32")}
        data_files = []
        for split in splits:
            count = 6
            rows = {text: [f"the {('cat', 'dog')[i % 2]} sat"] * count for i, text in enumerate(texts)}
            rows["label"] = [-1] * count if split.startswith("test") else [i % len(LABELS[name]) for i in range(count)]
            rows["idx"] = list(range(count))
            path = f"{name}/{split}-00000-of-00001.parquet"
            files[path] = parquet(rows, Features(features), folder)
            data_files.append({"split": split, "path": path})
        configs.append({"config_name": name, "data_files": data_files})
    # YAML reads JSON.
    files["README.md"] = f"---\n{json.dumps({'configs': configs})}\n---\n".encode()
    return files


def tags(folder: Path) -> bytes:
    features = Features(
        {
            "id": Value("string"),
            "tokens": Sequence(Value("string")),
            "ner_tags": Sequence(ClassLabel(names=["O", "B-person", "I-person"])),
        }
    )
    rows = {"id": ["0", "1"], "tokens": [["the", "cat"], ["dog"]], "ner_tags": [[0, 1], [0]]}
    return parquet(rows, features, folder)


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    server = HubServer()
    server.add("datasets", "nyu-mll/glue", glue(folder))
    # A dataset that is still a script; its tables lie on the branch that the Hub makes of it.
    server.add("datasets", "leondz/wnut_17", {"README.md": b"# wnut", "wnut_17.py": b"raise SystemExit"})
    converted = {f"wnut_17/{split}/0000.parquet": tags(folder) for split in ("train", "validation", "test")}
    server.add("datasets", "leondz/wnut_17", converted, "refs/convert/parquet")
    model = Path(checkpoint(folder / "model"))
    server.add("models", "lab/small", {path.name: path.read_bytes() for path in model.iterdir()})
    with server.serve() as address:
        yield address


def run(command: list[str], hub: str, folder: Path) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": hub, "HF_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)


READ = """
import json, sys
from modeling_electra_rtd.finetuning.reading import read_task
from modeling_electra_rtd.finetuning.tasks import TASKS
for name in sys.argv[1:]:
    data = read_task(TASKS[name])
    rows = {split: rows.to_list()[:2] for split, rows in data.splits.items()}
    print(json.dumps({name: rows, "labels": data.labels}))
"""


def test_tasks_are_read_in_the_form_of_files(hub, tmp_path):
    done = run([sys.executable, "-c", READ, "cola", "mnli", "ax", "wnut17"], hub, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    cola, mnli, ax, wnut = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    assert set(cola["cola"]) == {"train", "validation", "test"} and cola["labels"] == LABELS["cola"]
    assert [row["label"] for row in cola["cola"]["train"]] == [0, 1]
    assert cola["cola"]["test"] == [{"sentence": "the cat sat", "index": i} for i in range(2)]
    assert set(mnli["mnli"]) == {"train", "validation", "validation_mismatched", "test", "test_mismatched"}
    row = mnli["mnli"]["validation_mismatched"][1]
    assert (row["sentence1"], row["sentence2"], row["label"]) == ("the cat sat", "the dog sat", 1)
    assert ax["ax"]["test"][1] == {"sentence1": "the cat sat", "sentence2": "the dog sat", "index": 1}
    assert wnut["labels"] == ["O", "B-person", "I-person"]
    row = wnut["wnut17"]["train"][0]
    assert (row["tokens"], row["label"]) == (["the", "cat"], [0, 1])


def test_a_checkpoint_and_a_task_of_the_hub(hub, tmp_path):
    command = [sys.executable, "-m", "modeling_electra_rtd.cli", "finetune", "--task", "mnli", "--model", "lab/small"]
    options = ["--seeds", "0", "--from-scratch-seeds", "0", "--max-steps", "2", "--disable-tqdm", "true"]
    done = run([*command, "--output-dir", "run", *options], hub, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert record["data"]["sources"]["train"] == "nyu-mll/glue (mnli): train"
    assert set(record["fine_tuned"]["summary"]) == {"validation", "validation_mismatched"}
    submitted = {path.name: path.read_text().splitlines() for path in (tmp_path / "run" / "submission").iterdir()}
    assert set(submitted) == {"MNLI-m.tsv", "MNLI-mm.tsv", "AX.tsv"}
    assert all(len(lines) == 7 and lines[0] == "index\tprediction" for lines in submitted.values())


MISSING = {
    ("mrpc", "lab/small"): "mrpc: nyu-mll/glue cannot be read",
    ("squad", "lab/small"): "squad: rajpurkar/squad cannot be read",
    ("cola", "lab/none"): "'lab/none': cannot be loaded",
}

# In one process, for what it costs to start it.
ASK_ALL = """
import sys
from modeling_electra_rtd.cli.main import main
for task, model in zip(sys.argv[1::2], sys.argv[2::2]):
    print("asked", file=sys.stderr)
    assert main(["finetune", "--task", task, "--model", model, "--output-dir", "run"]) == 2
"""


def test_what_the_hub_does_not_have_ends_in_one_line(hub, tmp_path):
    done = run([sys.executable, "-c", ASK_ALL, *itertools.chain.from_iterable(MISSING)], hub, tmp_path)
    assert done.returncode == 0 and not (tmp_path / "run").exists(), done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    said = done.stderr.split("asked\n")[1:]
    for text, message in zip(said, MISSING.values(), strict=True):
        (line,) = [line for line in text.splitlines() if line.startswith("electra-rtd finetune: error: ")]
        assert message in line
