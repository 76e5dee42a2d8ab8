"""Medians and spread by hand; what a table says of failed runs, stand-ins and missing baselines."""

import statistics

import pytest

from modeling_electra_rtd.finetuning.report import aggregate, markdown_table, median_run, plot_confusion, plot_runs


def runs(values, degenerate=()):
    return [
        {
            "seed": seed,
            "metrics": {"validation": {"accuracy": value, "signature": "text"}},
            "is_degenerate": seed in degenerate,
            "log": [{"epoch": 1.0, "loss": 1.0 - value}, {"epoch": 1.0, "eval_accuracy": value}],
        }
        for seed, value in enumerate(values)
    ]


def record(values, scratch=(), degenerate=(), **changes):
    tuned, fresh = runs(values, degenerate), runs(scratch)
    return {
        "task": "toy",
        "headline": "accuracy",
        "validation_splits": ["validation"],
        "data": {"stand_ins": {}, "examples": {"train": 1234}},
        "fine_tuned": {
            "summary": {"validation": aggregate(tuned, "validation")},
            "failed_seeds": list(degenerate),
            "runs": tuned,
        },
        "from_scratch": {
            "summary": {"validation": aggregate(fresh, "validation")} if fresh else {},
            "failed_seeds": [],
            "runs": fresh,
        },
        "trivial": {"validation": {"accuracy": 0.5}},
        "selected_on_validation": False,
        **changes,
    }


def test_failed_runs_count():
    found = aggregate(runs([0.9, 0.5, 0.8, 0.7]), "validation")
    assert set(found) == {"accuracy"}
    assert found["accuracy"] == {
        "median": pytest.approx(0.75),
        "mean": pytest.approx(0.725),
        "standard_deviation": pytest.approx(statistics.stdev([0.9, 0.5, 0.8, 0.7])),
        "seeds": 4,
    }
    assert aggregate(runs([0.9]), "validation")["accuracy"]["standard_deviation"] is None


def test_what_is_shown_is_the_run_in_the_middle():
    assert median_run(runs([0.9, 0.5, 0.8]), "validation", "accuracy")["seed"] == 2
    assert median_run(runs([0.9, 0.5, 0.8, 0.7]), "validation", "accuracy")["seed"] == 3


def test_a_row_holds_median_spread_and_baselines():
    row = markdown_table([record([0.9, 0.5, 0.8], scratch=[0.6])]).splitlines()[2]
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "toy",
        "accuracy",
        "**0.8**",
        "0.7333 ± 0.21",
        "3",
        "0",
        "0.6 (1)",
        "0.5",
        "1,234",
    ]
    assert "0.9" not in row


def test_a_table_says_what_was_not_as_it_should_be():
    marked = {"stand_ins": {"train": "train_subset10k.tsv"}, "examples": {"train": 10_000}}
    table = markdown_table([record([0.9, 0.5], degenerate=[1], data=marked, selected_on_validation=True)])
    assert "| toy\\* |" in table and "train is train_subset10k.tsv, not the official file" in table
    assert "toy: failed seeds 1" in table
    assert "| not run |" in table
    assert "selected on the split that is shown" in table
    assert "selected" not in markdown_table([record([0.9])])


def test_pictures(tmp_path):
    plot_runs(record([0.9, 0.5], scratch=[0.6]), tmp_path / "curves.png")
    assert plot_confusion(["a", "b", "b"], ["a", "a", "b"], ["a", "b"], tmp_path / "confusion.png")
    for name in ("curves.png", "confusion.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    many = [str(number) for number in range(41)]
    assert not plot_confusion(many, many, many, tmp_path / "none.png") and not (tmp_path / "none.png").exists()


def test_a_set_has_an_average_that_leaves_wnli_out():
    def task(name, value, scratch):
        return record([value], [scratch], task=name, kind="classification")

    table = markdown_table([task("cola", 0.4, 0.2), task("sst2", 0.8, 0.6), task("wnli", 0.1, 0.1)])
    assert "| average of 2 without wnli | | **0.6** | | | | 0.4 | 0.5 | |" in table
    assert "average" not in markdown_table([task("cola", 0.4, 0.2)])


def test_what_no_prediction_could_exceed_stands_beside():
    table = markdown_table([record([0.7], oracle={"validation": {"accuracy": 0.9}}, kind="extractive_summarization")])
    assert "0.5 (oracle 0.9)" in table
