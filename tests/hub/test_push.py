"""Pushing through the real client over HTTP: what arrives, what is refused, and what a failure leaves behind."""

from dataclasses import replace
from pathlib import Path

import pytest
from helpers.hub_client import run_stranger
from helpers.hub_server import TOKENS, Fault, commit_of
from helpers.release import quick_export
from helpers.tiny import tiny_pair, tiny_tokenizer
from transformers import BertConfig, BertForSequenceClassification, EncoderDecoderConfig, EncoderDecoderModel


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    tiny_pair("electra").save_pretrained(folder / "joint")
    tiny_tokenizer(folder / "joint")
    quick_export(str(folder / "joint"), str(folder / "out"))
    (folder / "out" / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A pair\n")
    return folder / "out"


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


LOAD = """
from transformers import AutoModelForPreTraining
{lines}
model = AutoModelForPreTraining.from_pretrained("lab/pair")
print(type(model).__name__, type(generator).__name__, len(tokenizer))
"""


def test_what_arrives_is_what_was_sent_and_loads_for_strangers(hub, client, release, tmp_path):
    done = client.run("push", str(release), "lab/pair", "--private", loads=True)
    assert done.returncode == 0, done.stderr[-3000:]
    _, there = hub.find("models", "lab/pair")
    assert {name: content for name, content in there.items() if name != ".gitattributes"} == files_of(release)
    assert "lab/pair" in hub.private
    # One commit: nobody ever saw half of it.
    assert sum("/commit/main" in request for request in hub.requests) == 1
    lines = done.stdout.partition("\n\n")[2]
    assert len(lines.strip().splitlines()) == 4
    done = run_stranger(hub.address, tmp_path, LOAD.format(lines=lines))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["ElectraForPreTraining", "ElectraForMaskedLM", "150"]
    assert TOKENS["writer"] not in done.stdout + done.stderr


def test_a_dry_run_touches_nothing(hub, client, release):
    done = client.run("push", str(release), "lab/pair", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert not hub.requests and "generator/model.safetensors" in done.stdout and "# A pair" in done.stdout


def test_an_existing_repository_keeps_what_is_not_ours_and_loses_stale_weights(hub, client, release):
    mine = {"notes.md": b"mine", "model-00001-of-00002.safetensors": b"old", "config.json": b"{}"}
    hub.add("models", "lab/pair", mine)
    done = client.run("push", str(release), "lab/pair", "--revision", "next")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count('"lab/pair", revision="next"') == 3
    assert hub.find("models", "lab/pair")[1] == mine
    there = hub.find("models", "lab/pair", "next")[1]
    assert there == files_of(release) | {"notes.md": b"mine"}
    done = client.run("push", str(release), "lab/pair", "--create-pr")
    assert done.returncode == 0 and "/discussions/1" in done.stdout, done.stderr[-3000:]
    assert done.stdout.count('"lab/pair", revision="refs/pr/1"') == 3
    assert hub.find("models", "lab/pair")[1] == mine


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault("POST .*/commit/", 500, times=9), "the Hub failed (HTTP 500); nothing was changed"),
        (Fault("POST .*/commit/", 412), "the repository changed meanwhile"),
        (Fault("POST .*/commit/", 403), "this token may not write there"),
        (Fault("PUT /_lfs/", 0, times=99), "nothing was changed"),
        (Fault("validate-yaml", 400), "Invalid metadata in README.md"),
        (Fault("POST .*/commit/", 400), "saying 'ordered by the test' (HTTP 400); nothing was changed"),
    ],
    ids=["500", "conflict", "403", "dropped", "card", "400"],
)
@pytest.mark.parametrize("exists", [True, False])
def test_a_failure_leaves_the_old_state(fault, message, exists, hub, client, release):
    before = {"config.json": b"{}"}
    if exists:
        hub.add("models", "lab/pair", before)
    hub.faults = [replace(fault)]
    done = client.run("push", str(release), "lab/pair")
    assert done.returncode == 2 and message in done.stderr, done.stderr[-3000:]
    assert "Traceback" not in done.stderr and TOKENS["writer"] not in done.stderr
    if exists:
        assert hub.find("models", "lab/pair") == (commit_of(before), before)
    else:
        assert hub.find("models", "lab/pair") == "RepoNotFound"


def test_what_passes_is_tried_again(hub, client, release):
    hub.faults = [Fault("POST .*/commit/", 429, headers={"Retry-After": "1"}), Fault("POST .*/commit/", 503)]
    done = client.run("push", str(release), "lab/pair")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "too many requests (HTTP 429); nothing was changed; trying again in 1 s" in done.stderr
    assert hub.find("models", "lab/pair")[1].keys() > files_of(release).keys()


def test_a_name_without_an_owner_is_made_and_printed_in_full_when_the_hub_has_time(hub, client, release):
    busy = ("GET /api/whoami-v2", "GET /api/models/lab/pair$", "POST /api/repos/create")
    hub.faults = [Fault(pattern, 429, headers={"Retry-After": "1"}) for pattern in busy]
    done = client.run("push", str(release), "pair")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("too many requests (HTTP 429); trying again in 1 s") == len(busy)
    assert done.stdout.count('from_pretrained("lab/pair"') == 3 and '"pair"' not in done.stdout
    assert hub.find("models", "lab/pair")[1].keys() > files_of(release).keys()


def test_a_hub_that_stays_busy_made_nothing(hub, client, release):
    hub.faults = [Fault("POST /api/repos/create", 429, times=9)]
    done = client.run("push", str(release), "lab/pair")
    assert done.returncode == 2 and "too many requests (HTTP 429); nothing was changed" in done.stderr
    assert sum("repos/create" in request for request in hub.requests) == 4
    assert not any("DELETE" in request for request in hub.requests)


@pytest.mark.parametrize(
    "fault",
    [*(Fault("validate-yaml", status) for status in (404, 405, 501)), Fault("validate-yaml", 0, 1, {}, True, b"<p>")],
    ids=["404", "405", "501", "a page"],
)
def test_a_hub_that_checks_no_cards_takes_them(fault, hub, client, release):
    hub.faults = [replace(fault)]
    done = client.run("push", str(release), "lab/pair")
    assert done.returncode == 0, done.stderr[-3000:]
    assert hub.find("models", "lab/pair")[1]["README.md"] == (release / "README.md").read_bytes()
    assert not hub.faults[0].times


@pytest.mark.parametrize("lost", [False, True])
def test_an_empty_repository_is_filled(lost, hub, client, release):
    # Of its files the Hub says that there is no such folder.
    hub.add("models", "lab/pair", {})
    hub.faults = [Fault("POST .*/commit/", 0, after=True)] if lost else []
    done = client.run("push", str(release), "lab/pair")
    assert done.returncode == 0, done.stderr[-3000:]
    assert hub.find("models", "lab/pair")[1] == files_of(release)
    assert ("the answer was lost" in done.stderr) == lost and len(hub.commits("models", "lab/pair")) == 2


@pytest.mark.parametrize("lost", [False, True])
def test_a_hub_that_names_no_head_gets_a_commit_and_no_promise(lost, hub, client, release):
    hub.add("models", "lab/pair", {"notes.md": b"mine", "old.safetensors": b"old"})
    nameless = b'{"id": "lab/pair", "siblings": [], "tags": [], "private": false}'
    hub.faults = [Fault("GET /api/models/lab/pair$", 0, times=99, after=True, answer=nameless)]
    hub.faults += [Fault("POST .*/commit/", 0, after=True, times=99)] if lost else []
    done = client.run("push", str(release), "lab/pair")
    assert hub.find("models", "lab/pair")[1] == files_of(release) | {"notes.md": b"mine"}
    if lost:
        assert done.returncode == 2 and "could not be checked" in done.stderr, done.stderr[-3000:]
        assert "nothing was changed" not in done.stderr and "Traceback" not in done.stderr
    else:
        assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("answer", [None, b"<html>a proxy's page</html>", b"{}"], ids=["no", "no JSON", "empty"])
@pytest.mark.parametrize("exists", [True, False])
def test_a_commit_whose_answer_is_lost_is_found(exists, answer, hub, client, release):
    if exists:
        hub.add("models", "lab/pair", {"notes.md": b"mine", "old.safetensors": b"old"})
    # Not every Hub lists commits, and the newest is looked at first.
    hub.faults = [Fault("POST .*/commit/", 0, after=True, answer=answer), Fault("/commits/", 404, times=9)]
    done = client.run("push", str(release), "lab/pair")
    assert done.returncode == 0, done.stderr[-3000:]
    commit, there = hub.find("models", "lab/pair")
    assert there == files_of(release) | (
        {"notes.md": b"mine"} if exists else {".gitattributes": there[".gitattributes"]}
    )
    assert f"the answer was lost, but commit {commit} holds all files" in done.stderr
    # It was not sent twice.
    assert sum("/commit/main" in request for request in hub.requests) == 1
    assert len(hub.commits("models", "lab/pair")) == 2


def test_a_lost_commit_below_someone_elses_is_found(hub, client, release, monkeypatch):
    commit = hub.commit

    def then_another(kind, repository, revision, lines):
        oid = commit(kind, repository, revision, lines)
        content = {"path": "config.json", "content": "e30="}
        commit(kind, repository, revision, [{"key": "file", "value": content}])
        return oid

    monkeypatch.setattr(hub, "commit", then_another)
    hub.faults = [Fault("POST .*/commit/", 0, after=True)]
    done = client.run("push", str(release), "lab/pair")
    assert done.returncode == 0, done.stderr[-3000:]
    assert hub.commits("models", "lab/pair")[1][0] in done.stdout


@pytest.mark.parametrize("exists", [True, False])
def test_someone_elses_commit_is_not_taken_for_ours(exists, hub, client, release, monkeypatch):
    if exists:
        hub.add("models", "lab/pair", {"config.json": b"{}"})
    commit = hub.commit

    def another(kind, repository, revision, lines):
        # All that was sent, but for one file.
        lines = [line for line in lines if line["value"].get("path") != "generator/config.json"]
        return commit(kind, repository, revision, lines)

    monkeypatch.setattr(hub, "commit", another)
    hub.faults = [Fault("POST .*/commit/", 0, after=True)]
    done = client.run("push", str(release), "lab/pair")
    assert done.returncode == 2 and "someone else has committed there meanwhile" in done.stderr, done.stderr[-3000:]
    assert "nothing was changed" not in done.stderr
    # What they did stays, also in a repository that this push has made.
    assert "config.json" in hub.find("models", "lab/pair")[1]
    assert sum("/commit/main" in request for request in hub.requests) == 1


def test_what_cannot_be_looked_at_is_not_called_unchanged(hub, client, release, monkeypatch):
    hub.add("models", "lab/pair", {"config.json": b"{}"})
    commit = hub.commit

    def commit_and_fall_silent(*arguments):
        hub.faults.append(Fault(".", 0, times=999))
        return commit(*arguments)

    monkeypatch.setattr(hub, "commit", commit_and_fall_silent)
    hub.faults = [Fault("POST .*/commit/", 0, after=True)]
    done = client.run("push", str(release), "lab/pair")
    assert done.returncode == 2 and "could not be checked" in done.stderr, done.stderr[-3000:]
    assert "nothing was changed" not in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("answer", [None, b"{}"])
def test_a_lost_pull_request_is_not_opened_twice(answer, hub, client, release):
    before = {"config.json": b"{}"}
    hub.add("models", "lab/pair", before)
    hub.faults = [Fault("POST .*/commit/", 0, after=True, answer=answer)]
    done = client.run("push", str(release), "lab/pair", "--create-pr")
    assert done.returncode == 2 and "could not be checked" in done.stderr, done.stderr[-3000:]
    assert sum("/commit/main" in request for request in hub.requests) == 1
    assert hub.find("models", "lab/pair")[1] == before


@pytest.mark.parametrize("fault", [Fault("repos/create", 0, after=True), Fault("repos/create", 504)])
def test_a_repository_whose_making_is_unsure_is_said(fault, hub, client, release):
    hub.faults = [replace(fault)]
    done = client.run("push", str(release), "lab/pair")
    assert done.returncode == 2 and "whether the repository was made could not be checked" in done.stderr
    assert "nothing was changed" not in done.stderr and not any("DELETE" in request for request in hub.requests)


def test_a_branch_made_for_nothing_is_deleted(hub, client, release):
    hub.add("models", "lab/pair", {"config.json": b"{}"})
    hub.faults = [Fault("POST .*/commit/", 403)]
    done = client.run("push", str(release), "lab/pair", "--revision", "next")
    assert done.returncode == 2 and "nothing was changed" in done.stderr, done.stderr[-3000:]
    assert hub.find("models", "lab/pair", "next") == "RevisionNotFound"


def test_reading_back_is_tried_again(hub, client, release):
    hub.faults = [Fault("HEAD /lab/pair/resolve/.*/config.json", 0), Fault("GET /lab/pair/resolve/.*/README.md", 503)]
    done = client.run("push", str(release), "lab/pair")
    assert done.returncode == 0 and "reading back failed" in done.stderr, done.stderr[-3000:]


def test_what_cannot_be_read_back_is_said(hub, client, release):
    hub.faults = [Fault("(GET|HEAD) /lab/pair/resolve/.*/config.json", 500, times=999)]
    done = client.run("push", str(release), "lab/pair")
    assert done.returncode == 2, done.stderr[-3000:]
    assert "the commit was made, but could not be read back" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(("account", "message"), [(None, "hf auth login"), ("reader", "may not write there")])
def test_who_may_not_write(account, message, hub, client, release):
    done = client.run("push", str(release), "lab/pair", account=account)
    assert done.returncode == 2 and message in done.stderr, done.stderr[-2000:]
    assert "Traceback" not in done.stderr


def test_what_arrives_differently_is_said(hub, client, release, monkeypatch):
    commit = hub.commit

    def changed(*arguments):
        oid = commit(*arguments)
        files = hub.repositories[("models", "lab/pair")]["main"]
        files["config.json"] = files["config.json"] + b" "
        hub.history[oid] = files
        return oid

    monkeypatch.setattr(hub, "commit", changed)
    done = client.run("push", str(release), "lab/pair")
    assert done.returncode == 2 and "the commit was made, but config.json is not what was sent" in done.stderr
    assert "Traceback" not in done.stderr


# What stock classes say of the folder, and then of what was read back.
LACKING = """
from modeling_electra_rtd.cli.main import main
from modeling_electra_rtd.release import upload as hub
reports = iter([{{"root": {{"missing": missing, "sum": 1.0}}}} for missing in ([], {lost})])
hub.stock_outputs = lambda folder: next(reports)
raise SystemExit(main(["push", {folder!r}, "lab/pair"]))
"""


def test_weights_that_do_not_load_from_there_are_said(hub, client, release):
    done = client.execute(LACKING.format(lost=["head.weight", "head.bias"], folder=str(release)))
    message = "the commit was made, but its weights lack 2, as head.weight (root)"
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr, done.stderr[-3000:]


def test_a_repository_that_cannot_be_made_is_not_deleted(hub, client, release):
    # It exists, but is not to be seen when asked for first, as when someone else is making it.
    mine = {"config.json": b"{}"}
    hub.add("models", "lab/pair", mine)
    hub.faults = [Fault("GET /api/models/lab/pair", 404, headers={"X-Error-Code": "RepoNotFound"})]
    done = client.run("push", str(release), "lab/pair")
    assert done.returncode == 2 and "HTTP 409" in done.stderr, done.stderr[-2000:]
    assert "nothing was changed" in done.stderr
    assert hub.find("models", "lab/pair")[1] == mine and not any("DELETE" in request for request in hub.requests)


@pytest.mark.parametrize("kind", ["classifier", "encoder and decoder"])
def test_a_finetuned_model_is_loaded_by_its_own_class(kind, hub, client, tmp_path):
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    part = BertConfig(vocab_size=150, **size)
    if kind == "classifier":
        model = BertForSequenceClassification(part)
    else:
        model = EncoderDecoderModel(EncoderDecoderConfig.from_encoder_decoder_configs(part, part))
    model.save_pretrained(tmp_path / "model")
    tiny_tokenizer(tmp_path / "model")
    done = client.run("push", str(tmp_path / "model"), "lab/model", loads=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "lab/model gets no model card" in done.stderr and "no tokenizer" not in done.stderr
    done = client.execute(f"{done.stdout.partition(chr(10) * 2)[2]}\nprint(type(model).__name__, len(tokenizer))")
    assert done.stdout.split() == [type(model).__name__, "150"], done.stderr[-3000:]


INTERRUPTED = """
from unittest.mock import patch
from modeling_electra_rtd.cli.main import main
with patch({where!r}, side_effect=KeyboardInterrupt):
    raise SystemExit(main(["push", {folder!r}, "lab/pair"]))
"""


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("huggingface_hub.HfApi.preupload_lfs_files", "could not be checked"),
        (
            "modeling_electra_rtd.release.hub_client.snapshot_download",
            "the commit was made; stopped before it was read back",
        ),
    ],
)
def test_who_stops_a_push_learns_how_far_it_came(where, message, hub, client, release):
    hub.add("models", "lab/pair", {"config.json": b"{}"})
    done = client.execute(INTERRUPTED.format(where=where, folder=str(release)))
    assert done.returncode == 130 and message in done.stderr and "Traceback" not in done.stderr, done.stderr[-3000:]
