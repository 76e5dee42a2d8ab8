"""The pages of the documentation: every block of code runs, every name in them exists, and links lead somewhere."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.documentation import ROOT, Block, blocks_of, check_unrun, run_blocks, workplace_for, write_materials


DOCS = ROOT / "docs"
# Written by hand as a record of what was done and why; their commands are those of their day.
RECORDS = ("decisions.md", "findings.md", "log/", "records/")
PAGES = sorted(
    page.relative_to(DOCS).as_posix()
    for page in DOCS.rglob("*.md")
    if not page.relative_to(DOCS).as_posix().startswith(RECORDS)
)
# Blocks that no test can run, by page: a new one is added here on purpose.
NOT_RUN = {
    "how-to/converting.md": 1,
    "how-to/precision-and-speed.md": 1,
    "how-to/score-inspect-demo.md": 2,
    "how-to/several-gpus.md": 3,
    "how-to/tune-a-recipe.md": 1,
    "reference/model-names.md": 1,
    "tutorials/fine-tune-and-share.md": 1,
}
HAVE_CODE = [page for page in PAGES if blocks_of(DOCS / page)]


@pytest.fixture(scope="module")
def materials(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("materials")
    write_materials(folder)
    return folder


# What a page says that its commands leave.
LEFT = {
    "tutorials/your-language.md": [f"runs/tiny/{name}" for name in ("curves.png", "recipe.yaml", "run.json")],
    "tutorials/your-domain.md": ["runs/continued/run.json", "runs/bert-continued/run.json", "runs/release/README.md"],
    "tutorials/fine-tune-and-share.md": ["runs/topics/seed-0/config.json", "runs/tiny-shared/README.md"],
    "how-to/resume-and-stop.md": ["runs/long/asked.json", "runs/long/checkpoint-2/checkpoint.json"],
}


@pytest.mark.usefixtures("remote_code_forgotten")
@pytest.mark.parametrize("page", HAVE_CODE)
def test_every_block_runs(page, materials, tmp_path, monkeypatch):
    blocks = blocks_of(DOCS / page)
    names = run_blocks(blocks, workplace_for(blocks, materials, tmp_path), monkeypatch)
    for left in LEFT.get(page, []):
        assert (tmp_path / left).is_file(), left
    if page == "how-to/score-inspect-demo.md":
        assert names["detect"]("A river.")[0]["start"] == 0 and names["fill"]("a [MASK]")
    if page == "tutorials/fine-tune-and-share.md":
        table = (tmp_path / "runs" / "mrpc" / "table.md").read_text()
        assert table.count("| mrpc | accuracy |") == 1
        assert "| train | accuracy |" in (tmp_path / "runs" / "topics" / "table.md").read_text()


def test_what_is_not_run_is_counted():
    marked = {page: sum(block.not_run is not None for block in blocks_of(DOCS / page)) for page in PAGES}
    assert {page: count for page, count in marked.items() if count} == NOT_RUN


@pytest.mark.parametrize(
    "code",
    [
        "electra-rtd pretrain tiny --learning-rat 1",
        "electra-rtd push a OWNER/NAME --drry-run",
        "accelerate launch --no-such-option -m modeling_electra_rtd.cli pretrain tiny",
        "accelerate launch --config_file nowhere.yaml -m modeling_electra_rtd.cli pretrain tiny",
        "torchrun --nproc-per-node 2 -m modeling_electra_rtd.cli finetune --model a --output-dir b --learning-rat 1",
        "python scripts/compare_training.py tiny --no-such-option",
        "rm -rf runs",
    ],
)
def test_a_mistake_in_a_block_that_is_not_run_is_found(code):
    with pytest.raises((AssertionError, SystemExit, ValueError)):
        check_unrun(Block("a-page.md:1", "bash", code + "\n", "an example"))


@pytest.mark.parametrize("page", PAGES)
def test_paths_that_a_page_names_exist(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    folders = "tests|scripts|benchmarks|configuration|modeling_electra_rtd|notebooks"
    named = set(re.findall(rf"(?<![\w/.-])((?:{folders})/[\w/.-]*\w)", text))
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing


def test_links_of_every_page_lead_to_files():
    missing = []
    for page in sorted(DOCS.rglob("*.md")):
        links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text(encoding="utf-8"))
        missing += [f"{page.relative_to(DOCS)}: {link}" for link in links if not (page.parent / link).exists()]
    assert not missing


def test_tests_that_the_pages_name_exist():
    named = {
        name
        for page in PAGES
        for name in re.findall(r"tests/[\w/]+\.py::\w+", (DOCS / page).read_text(encoding="utf-8"))
    }
    assert len(named) > 10
    missing = []
    for name in sorted(named):
        path, _, function = name.partition("::")
        if f"\ndef {function}(" not in (ROOT / path).read_text(encoding="utf-8"):
            missing.append(name)
    assert not missing


def test_each_of_the_six_mistakes_has_a_test():
    text = (DOCS / "explanation" / "six-mistakes.md").read_text(encoding="utf-8")
    sections = re.split(r"^## \d\. ", text, flags=re.MULTILINE)[1:]
    assert len(sections) == 6
    assert all("*Seen as*:" in section and "::test_" in section for section in sections)


def test_the_script_for_launchers_that_take_a_file_answers():
    script = ROOT / "scripts" / "pretrain.py"
    done = subprocess.run([sys.executable, str(script), "--help"], capture_output=True, text=True, check=True)
    assert "recipe" in done.stdout


@pytest.mark.parametrize("page", [*PAGES, "../README.md", "../CONTRIBUTING.md"])
def test_no_line_is_longer_than_in_code(page):
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if len(line) > 119]


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2].partition("\n\n")[0]
    listed = re.findall(r"([\w/-]+\.md)$", navigation, re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert set(PAGES) <= set(listed)


def test_the_site_asks_nothing_of_the_network():
    configuration = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "font: false" in configuration and "http" not in configuration


@pytest.mark.slow
def test_the_build_of_make_fails_at_a_broken_link_and_only_there(tmp_path):
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    for name in ("docs", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (options,) = re.findall(r"^MKDOCS := .*-m mkdocs build (.*)$", makefile, re.MULTILINE)
    build = [sys.executable, "-m", "mkdocs", "build", *options.split()]
    page = tmp_path / "docs" / "index.md"
    text = page.read_text(encoding="utf-8")
    built = {}
    for link in ("index.md", "nowhere.md", "index.md#nothing"):
        page.write_text(f"{text}\n[A link]({link})\n", encoding="utf-8")
        built[link] = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True).returncode
    assert built == {"index.md": 0, "nowhere.md": 1, "index.md#nothing": 1}
