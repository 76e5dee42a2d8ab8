"""scripts/collect_prose.py: prose is kept and code is dropped, as in the text that travels with the package."""

import sys
from pathlib import Path

import pytest

from modeling_electra_rtd.quickstart import quickstart_documents


ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import collect_prose  # noqa: E402
from collect_prose import collect_python_prose, paragraphs_of_python, paragraphs_of_text  # noqa: E402


PUBLIC_MODULE = '''"""One line that is too short.

The reader opens the archive once and keeps it open, because every member is read
from the same ``offset`` table; see :class:`~archive.reader.Member` for what a member *is*.

    raise SystemExit("indented code is no prose, even when it is as long as a paragraph is.")

>>> read("archive.bin")
This output of the doctest looks like a sentence of the documentation but it is dropped.

A table follows this sentence, which ends with a colon and so is kept without it. Here it is::

    This literal block would pass for prose, but what follows two colons is never read as text.

==========  ==========================================================
Column      What is written in the column of the table that is dropped
==========  ==========================================================
"""

import os

raise RuntimeError("this module must never be run")


def read(path, members=None):
    """Read the members that were asked for and return them in the order of the archive.

    Args:
        path (`str` or `os.PathLike`): Where the archive lies; a folder is refused before anything
            is read from it.
        members (list of `str`, *optional*): The names of the members to read.

    Returns:
        dict: x
    """
    message = """This long string stands in the body of a function and is therefore no documentation at all."""
    return message


class Reader:
    def __init__(self):
        """See the `manual <https://example.org/manual>`_ for the [formats](https://example.org)
        that an instance of this class can read.

        .. code-block:: python

            This line lies in a block of code and must not be kept, however much it reads like prose.

        .. note::
            An archive that was written by an older version is read as well, but it takes longer.
        """
'''

PROSE = [
    "The reader opens the archive once and keeps it open, because every member is read from the same offset table; "
    "see Member for what a member is.",
    "A table follows this sentence, which ends with a colon and so is kept without it.",
    "Read the members that were asked for and return them in the order of the archive.",
    "Where the archive lies; a folder is refused before anything is read from it.",
    "See the manual for the formats that an instance of this class can read.",
    "An archive that was written by an older version is read as well, but it takes longer.",
]

NEW_PROSE = "The writer keeps what it was given in memory until the archive is closed by its owner."


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A site-packages folder with every kind of file that is kept or left out."""
    files = {
        "archive/reader.py": PUBLIC_MODULE,
        # The same paragraph for another class, a repeated one, and a new one.
        "archive/writer.py": f'''"""{PROSE[0].replace("Member", "Writer2")}

{PROSE[2]}

{NEW_PROSE}"""
''',
        "archive/tests/test_reader.py": '"""This is the documentation of a test and is not read, prose or not."""\n',
        "archive/_vendor/other.py": '"""This is the copy of another package, which would be read a second time."""\n',
        "archive/broken.py": '"""This module does not parse, so nothing that is written in it is kept."""\ndef (:\n',
        "archive-1.0.dist-info/METADATA": """Metadata-Version: 2.4
Name: archive

# Archive

This package reads archives that were written by **other** packages and that nobody reads now.

```
This is a fenced block of code and it is not kept, although it reads as prose.
```
""",
        "archive-1.0.dist-info/LICENSE.md": "You may do with this package whatever you like, and you may do so now.\n",
        "archive/notice.rst": "You may do with this package whatever you want, and you may do it today.\n",
        "archive/guide.rst": """Guide
=====

Everything in this package is licensed under the terms of its owner and of no other.

An archive is a file that holds other files, and a guide
is a file that tells you so.
""",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_prose_is_kept_exactly_and_code_is_dropped():
    assert paragraphs_of_python(PUBLIC_MODULE) == PROSE


def test_documents_are_sorted_and_hold_each_paragraph_once(installed):
    documents = collect_python_prose(roots=[installed])
    readme, guide, *modules = documents
    assert readme == "This package reads archives that were written by other packages and that nobody reads now."
    assert guide == "An archive is a file that holds other files, and a guide is a file that tells you so."
    paragraphs = [paragraph for document in modules for paragraph in document.split("\n")]
    # Which of two near-duplicates is met first depends on the names of their files; that one of them stays does not.
    assert len(paragraphs) == len(set(paragraphs)) == len(PROSE) + 1
    assert set(PROSE[1:]) < set(paragraphs)
    assert NEW_PROSE in paragraphs
    assert sum(paragraph.startswith("The reader opens the archive") for paragraph in paragraphs) == 1


def test_same_files_give_same_documents_with_and_without_processes(installed, monkeypatch):
    for number in range(300):
        extent = "never " * (number % 9) + "and " * (number // 9)
        text = f"This part of the package says what it is for and who needs {extent}it now."
        (installed / f"module_{number}.py").write_text(f'"""{text}"""\n')
    alone, together = [], []
    for documents, workers in ((alone, {0}), (together, {0, 1})):
        monkeypatch.setattr(collect_prose.os, "sched_getaffinity", lambda _, workers=workers: workers, raising=False)
        documents.extend(collect_python_prose(roots=[installed]))
    assert alone == together
    assert len(alone) > 100


def test_budget_is_kept(installed):
    everything = collect_python_prose(roots=[installed])
    size = sum(len(document.encode()) for document in everything)
    assert collect_python_prose(max_bytes=size, roots=[installed]) == everything
    part = collect_python_prose(max_bytes=size - 1, roots=[installed])
    assert 0 < sum(len(document.encode()) for document in part) < size
    assert set(part) < set(everything)


@pytest.mark.parametrize(
    ("text", "paragraphs"),
    [
        ("usage: archive [-h] [--force] FILE, where each FILE is one of the archives that can be read.", []),
        ("x = [read(member) for member in archive if member.name not in seen and not member.is_dir()].", []),
        ("Copyright of the authors, who permit you to use this in the ways that are listed in the file.", []),
        ("- The first item of a list is a sentence by itself and is kept.\n"
         "- The second is a sentence as well,\n  on two lines, so\n  it is kept with the first.",
         ["The first item of a list is a sentence by itself and is kept.",
          "The second is a sentence as well, on two lines, so it is kept with the first."]),
        ("Parameters\n----------\nmembers : list of str\n"
         "    The names of the members to read, in any order that you want to have them.",
         ["The names of the members to read, in any order that you want to have them."]),
        ("Without a `generator`, the default of `.numpy` is used.\n"
         "With one, numbers are drawn from `generator`.\nIt advances.",
         ["Without a generator, the default of numpy is used. "
          "With one, numbers are drawn from generator. It advances."]),
        (":param path: Where the archive lies on the disk, as a string or as a path object.",
         ["Where the archive lies on the disk, as a string or as a path object."]),
    ],
    ids=["usage", "code", "licence", "bullets", "numpy", "backticks", "sphinx"],
)  # fmt: skip
def test_layouts(text, paragraphs):
    assert paragraphs_of_text(text) == paragraphs


@pytest.mark.parametrize("arguments", [{"max_bytes": 0}, {"roots": ["no/such/folder"]}])
def test_refusals(arguments):
    with pytest.raises(ValueError, match="max_bytes must be positive|no such folder"):
        collect_python_prose(**arguments)


def test_standard_library_reads_as_english():
    documents = collect_python_prose(roots=[Path(__import__("email").__file__).parent])
    words = " ".join(documents).split()
    assert len(words) > 2_000
    assert 0.04 < sum(word == "the" for word in words) / len(words) < 0.12
    for paragraph in "\n".join(documents).split("\n"):
        assert len(paragraph) >= collect_prose.SHORTEST_PARAGRAPH
        assert paragraph == " ".join(paragraph.split())
        assert ">>>" not in paragraph and "``" not in paragraph


@pytest.mark.parametrize("escape", [r"\x00", r"\x08", r"\ud800"])
def test_characters_that_no_text_file_holds_are_left_out(escape):
    kept = "The first of the two paragraphs is kept, because there is nothing in it that a text file cannot hold."
    other = f"The second of them names {escape} as the number that the reader of the file has to see."
    source = f'"""{kept}\n\n{other}\n"""'
    assert paragraphs_of_python(source) == [kept]
    assert paragraphs_of_python(source.replace(escape, "it")) != [kept]


def test_the_text_of_the_quickstart_reads_as_english_and_its_licences_lie_beside_it():
    documents = quickstart_documents()
    text = "\n".join(documents)
    assert 4e6 < len(text.encode()) < 6e6 and len(documents) > 1_000
    # What this script keeps, it keeps again: nothing of another origin has come into the file.
    paragraphs = text.split("\n")
    sample = paragraphs[:: len(paragraphs) // 500]
    again = [paragraphs_of_text(paragraph) for paragraph in sample]
    assert sum([paragraph] == found for paragraph, found in zip(sample, again, strict=True)) > 0.95 * len(sample)
    licences = (ROOT / "modeling_electra_rtd" / "quickstart_text" / collect_prose.LICENCES).read_text(encoding="utf-8")
    for name in ("Python 3", *collect_prose.PACKAGES.values()):
        assert f"## {name}" in licences
    assert licences.count("Redistribution and use in source and binary forms") == len(collect_prose.PACKAGES)


def test_licences_are_those_of_the_installed_packages():
    for name in collect_prose.PACKAGES.values():
        assert f"## {name} " in collect_prose.licences()


def test_the_command_writes_text_and_licences(tmp_path, monkeypatch, installed, capsys):
    collect = collect_prose.collect_python_prose
    monkeypatch.setattr(collect_prose, "collect_python_prose", lambda: collect(roots=[installed]))
    monkeypatch.setattr(sys, "argv", ["collect_prose.py", "--output-dir", str(tmp_path / "out")])
    collect_prose.main()
    assert "documents" in capsys.readouterr().out
    packed = (tmp_path / "out" / collect_prose.TEXT).read_bytes()
    assert collect_prose.lzma.decompress(packed).decode() == "\n\n".join(collect(roots=[installed])) + "\n"
