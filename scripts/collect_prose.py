"""Collect the English text that the quickstart trains on, from the documentation of installed Python packages.

    python scripts/collect_prose.py --output-dir modeling_electra_rtd/quickstart_text

The text travels with the package, so that a first try needs no network, waits for nothing, and reads the same words on
every machine. Its sources are the standard library and packages that are documented in whole sentences and whose
licences allow it: `LICENCES.md` beside the text holds them. Run this with the versions of constraints.txt and Python
3.11 to get the text again.

Sources are read with `ast`, so no module is ever imported or run. What reads as English is kept: code, doctests,
tables, signatures and licence texts are dropped, hard-wrapped paragraphs are joined, light markup is stripped, and
repeated paragraphs are kept once.

Words used below: a *paragraph* is one line of prose; a *document* is the paragraphs of one file, one per line.
"""

import argparse
import ast
import hashlib
import importlib.metadata
import inspect
import lzma
import multiprocessing
import os
import platform
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tqdm.auto import tqdm


TEXT, LICENCES = "text.txt.xz", "LICENCES.md"
# The folder of each package, and the name of its distribution; all are installed with this one.
PACKAGES = {"numpy": "numpy", "pandas": "pandas", "scipy": "scipy", "sklearn": "scikit-learn", "sympy": "sympy"}
LICENCE_OF_PACKAGE = re.compile(r"\.dist-info/(licenses/)?(LICENSE(\.txt)?|COPYING)$")
# Behind the first line like this, a licence file goes on with those of what the package bundles.
END_OF_LICENCE = re.compile(r"^-{4,}$|^BEOPEN\.COM LICENSE AGREEMENT", re.MULTILINE)

# Bytes. The few larger files are generated tables; parsing one costs seconds and yields nothing.
LARGEST_FILE = 1_500_000
# Characters. Shorter paragraphs are headings and one-line summaries; longer ones are walls of generated text.
SHORTEST_PARAGRAPH, LONGEST_PARAGRAPH = 60, 3_000
# Characters. String constants that are no docstring but documentation all the same (`add_docstr(torch.abs, "...")`).
SHORTEST_DOCUMENTATION_CONSTANT = 240
# Files per message between processes: large enough to hide the messages, small enough for a live progress bar.
FILES_PER_TASK = 32

SKIPPED_FOLDERS = frozenset(
    "__pycache__ test tests testing _vendor vendor _vendored vendored site-packages dist-packages lib2to3 "
    "licenses LICENSES".split()
)
LICENCE_FILE = re.compile(r"licen[cs]e|copying|copyright|notice|authors|contributors|third.?party", re.IGNORECASE)
LICENCE_TEXT = re.compile(
    r"copyright|licen[cs]ed under|licen[cs]e agreement|warrant(?:y|ies)\b|redistribut|merchantab|all rights reserved"
    r"|permission is hereby",
    re.IGNORECASE,
)

# Triple-quoted strings, and the lines ending in a newline escape that make up Python's own manual in `pydoc_data`.
LONG_STRING = re.compile(rb"(\"\"\"|''').*?\1|^[^\n]*\\n['\"]$", re.DOTALL | re.MULTILINE)

BULLET = re.compile(r"(?:[-*+\u2022]|\(?\d{1,2}[.)]|\(?[a-z][)])\s+(?=\S)")
# `:param x: Text`, `x (int, optional): Text`, `**x** -- Text`, `x: Text`: the name goes, the text is a sentence.
NAMES = r"[`*]{0,3}[\w.]+[`*]{0,3}(?:\s*,\s*[`*]{0,3}[\w.]+[`*]{0,3})*"
PARAMETER = re.compile(
    r":(?:param|type|returns?|rtype|raises?|arg|keyword|ivar|var)\b[^:]*:\s*"
    rf"|{NAMES}(?:\s*\([^()]*(?:\([^()]*\)[^()]*)*\))?\s*(?::|--)\s+(?=[A-Z`\"'])"
)
# `x : array of shape (n,)`, `x (int):`, `Returns:`, `Args:`: what remains of a parameter list is no sentence.
HEADER = re.compile(rf"{NAMES}\s*(?::\s|:$|\([^()]*\)\s*:?$|--\s*$)")
UNDERLINE = re.compile(r"([=\-~^\"'`#*+_.:<>])\1{2,}$")
TABLE = re.compile(r"^\s*(?:\||\+[-=]|[-=]{2,}\s+[-=]{2,})|\s\|\s.*\s\|")
DIRECTIVE = re.compile(r"\.\.\s+(?:\|[^|]*\|\s+)?([\w:-]+?)::\s*(.*)$")
PROSE_DIRECTIVES = frozenset("note warning tip important hint caution attention seealso admonition topic".split())
FENCE = re.compile(r"(?:```|~~~)")
SENTENCE_END = re.compile(r"[.!?][\"')\]]{0,2}$")
LAST_SENTENCE = re.compile(r".*[a-z0-9)\"'][.!?][\"')]?(?=\s+[A-Z])")
WORD = re.compile(
    r"[(\"']{0,2}(?:[A-Z]?[a-z]+|[A-Z]{1,5}|[A-Z][a-z]+[A-Z][a-z]+)(?:[-'\u2019][A-Za-z]+)*[.,;:!?)\"']{0,3}$"
)
CODE_CHARACTERS = re.compile(r"[_=<>{}\[\]\\/|@#$^~+*%&`]")
NOT_A_LETTER = re.compile(r"[^A-Za-z]")
NOT_PLAIN = re.compile(r"[^A-Za-z .,;:'\"()!?\u2019-]")
FUNCTION_WORDS = frozenset(
    "a an and are as at be been but by can do does for from has have if in into is it its may must no not of on or "
    "should so such than that the their then there these they this to used was we when where which will with you "
    "your only all any both each other more most between".split()
)

INLINE_MARKUP: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"<!--.*?-->"), " "),
    (re.compile(r"!\[[^\]]*\]\([^)]*\)"), " "),
    (re.compile(r"\[([^\]]+)\]\([^)\s]*\)"), r"\1"),
    (re.compile(r"\s?\[(?:\d+|[A-Z]\w*\d+|#\w*)\]_"), ""),
    (re.compile(r":[\w:+-]+:`([^`<]+?)\s*<[^`>]*>`"), r"\1"),
    (re.compile(r":[\w:+-]+:`[~!](?:[\w.]+\.)?([^`]+)`"), r"\1"),
    (re.compile(r"`[~!.]+(?=\w)(?:[\w.]+\.)?([^`]+)`"), r"\1"),
    (re.compile(r":[\w:+-]+:`([^`]+)`"), r"\1"),
    (re.compile(r"`([^`<]+?)\s*<[^`>]*>`_{1,2}"), r"\1"),
    (re.compile(r"``(.+?)``"), r"\1"),
    (re.compile(r"`([^`]+)`_{0,2}"), r"\1"),
    (re.compile(r"\*\*([^*]+)\*\*"), r"\1"),
    (re.compile(r"(?<![\w*])\*([^*\s][^*]*?)\*(?![\w*])"), r"\1"),
    (re.compile(r"(?<![\w_])_([^_\s][^_]*?)_(?![\w_])"), r"\1"),
    (re.compile(r"</?[A-Za-z][^<>]*>"), " "),
    (re.compile(r"\\([*_`|:\s])"), r"\1"),
    (re.compile(r"(?<![\w\])])\[~?(?:[\w.]+\.)?(\w+)\](?![\w\[(])"), r"\1"),
    (re.compile(r"\s*::$"), ":"),
)
MARKUP = re.compile(r"[`*_<\[\\]|::$")


def collect_python_prose(max_bytes: int = 12_000_000, roots: Sequence[str | os.PathLike] | None = None) -> list[str]:
    """Collect the prose of the standard library and of the installed packages.

    Files are read in an order fixed by a hash of their relative path, so that a budget smaller than what is installed
    takes an even share of everything rather than the packages whose names come first in the alphabet. The result
    depends on the installed files and `max_bytes` only.

    Args:
        max_bytes: budget in UTF-8 bytes; the document that would exceed it and all after it are left out.
        roots: folders to read. Default: the standard library and `PACKAGES`, as the running interpreter has them.

    Returns:
        Documents sorted by the relative path of their file; each holds one paragraph per line.

    Raises:
        ValueError: `max_bytes` is not positive, or a root is no folder.
    """
    if max_bytes <= 0:
        raise ValueError(f"max_bytes must be positive, got {max_bytes}")
    folders = [Path(root) for root in roots] if roots is not None else _installed_folders()
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"no such folder to read prose from: {folder}")
    paths = {
        path.relative_to(folder.parent).as_posix(): path for folder in folders for path in _documentation_files(folder)
    }
    names = sorted(paths, key=lambda name: hashlib.blake2b(name.encode(), digest_size=8).digest())
    seen: set[bytes] = set()
    documents: dict[str, str] = {}
    total_bytes = 0
    contents = _read_all([paths[name] for name in names])
    with tqdm(total=len(names), desc="reading prose", unit="file") as progress:
        for name, paragraphs in zip(names, contents, strict=True):
            progress.update()
            fresh = [paragraph for paragraph in paragraphs if _is_new(paragraph, seen)]
            if not fresh:
                continue
            document = "\n".join(fresh)
            size = len(document.encode())
            if total_bytes + size > max_bytes:
                break
            total_bytes += size
            documents[name] = document
            progress.set_postfix_str(f"{total_bytes / 1e6:.1f} MB", refresh=False)
    return [documents[name] for name in sorted(documents)]


def paragraphs_of_python(source: str | bytes) -> list[str]:
    """Prose paragraphs of one Python source: its docstrings and long documentation strings, in order.

    A source that does not parse (another Python version, a template) has no paragraphs.
    """
    with warnings.catch_warnings():
        # Invalid escapes in other people's strings are not ours to report.
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return []
    return [paragraph for text in _documentation_strings(tree.body) for paragraph in paragraphs_of_text(text)]


def paragraphs_of_text(text: str) -> list[str]:
    """Prose paragraphs of one docstring or documentation file (plain, reStructuredText or Markdown), in order."""
    candidates = (_strip_markup(candidate) for candidate in _unwrapped(text) if len(candidate) >= SHORTEST_PARAGRAPH)
    return [prose for candidate in candidates if (prose := _prose_or_none(candidate)) is not None]


def licences() -> str:
    """The licences of what is collected, as a page; those of what a package bundles are left out, as is its text."""
    licence = Path(sysconfig.get_path("stdlib"), "LICENSE.txt").read_text(encoding="utf-8")
    licence = licence[licence.index("PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2\n-") :]
    texts = {f"Python {platform.python_version()}, standard library": licence.replace("\n" + 44 * "-", "", 1)}
    for distribution in PACKAGES.values():
        files = importlib.metadata.files(distribution) or []
        (file,) = [
            path for path in files if path.match("*.dist-info/LICEN*") or path.match("*.dist-info/licenses/[LC]*[EGt]")
        ]
        texts[f"{distribution} {importlib.metadata.version(distribution)}"] = file.locate().read_text(encoding="utf-8")
    pages = [f"## {name}\n\n```text\n{END_OF_LICENCE.split(text)[0].strip()}\n```\n" for name, text in texts.items()]
    head = (
        f"# Where {TEXT} comes from\n\nParagraphs of the documentation of these packages, chosen and cleaned by "
        "`scripts/collect_prose.py`: cut to whole\nsentences, without code and markup. Their licences:\n\n"
    )
    return head + "\n".join(pages)


def _installed_folders() -> list[Path]:
    return [Path(sysconfig.get_path("stdlib")), *(Path(sysconfig.get_path("purelib"), name) for name in PACKAGES)]


def _documentation_files(folder: Path) -> Iterator[Path]:
    for parent, children, names in os.walk(folder):
        children[:] = sorted(child for child in children if child not in SKIPPED_FOLDERS)
        for name in sorted(names):
            if name.startswith("test_") or name == "conftest.py" or LICENCE_FILE.search(name):
                continue
            # METADATA holds a distribution's long description, usually its README.
            if name.endswith((".py", ".rst", ".md")) or name == "METADATA":
                yield Path(parent, name)


def _read_all(files: list[Path]) -> Iterator[list[str]]:
    """Paragraphs of each file, in the order of `files`.

    Parsing is pure Python, so two processes halve the wait. They are forked here, before the progress bar starts its
    thread. Where the platform cannot fork safely (macOS, Windows) or there is little to read, this process reads.
    """
    workers = min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    if sys.platform != "linux" or workers < 2 or len(files) < 4 * FILES_PER_TASK:
        return map(_read_file, files)
    executor = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork"))
    return _shut_down_after(executor, executor.map(_read_file, files, chunksize=FILES_PER_TASK))


def _shut_down_after(executor: ProcessPoolExecutor, results: Iterator[list[str]]) -> Iterator[list[str]]:
    try:
        yield from results
    finally:
        # Reached early when the budget is spent: what is still queued need not be read.
        executor.shutdown(cancel_futures=True)


def _read_file(file: Path) -> list[str]:
    try:
        if file.stat().st_size > LARGEST_FILE:
            return []
        source = file.read_bytes()
    except OSError:
        return []
    if file.suffix == ".py":
        return paragraphs_of_python(source) if _is_documented(source) else []
    text = source.decode("utf-8", errors="replace")
    if file.name == "METADATA":
        text = text.partition("\n\n")[2]
    return paragraphs_of_text(text)


def _is_documented(source: bytes) -> bool:
    """Whether parsing is worth its cost, which is half of all the time spent here.

    On an installation of 12,000 files the rule spared a quarter of the parsing and lost one fortieth of the prose.
    """
    long_strings = sum(match.end() - match.start() for match in LONG_STRING.finditer(source))
    return long_strings >= 0.1 * len(source)


def _documentation_strings(body: Iterable[ast.stmt]) -> Iterator[str]:
    """Docstrings in source order, with the long string constants of module-level and class-level statements.

    Only statements are visited: walking every expression would take several times as long as parsing.
    """
    for statement in body:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            if isinstance(statement.value.value, str):
                yield statement.value.value
        elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            # Below the docstring of a function lies code; nested functions are rarely documented.
            yield from _documentation_strings(statement.body[:1])
        elif isinstance(statement, ast.Expr | ast.Assign | ast.AnnAssign):
            one_line = statement.end_lineno == statement.lineno
            if one_line and statement.end_col_offset - statement.col_offset < SHORTEST_DOCUMENTATION_CONSTANT:
                continue
            for node in ast.walk(statement):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    if len(node.value) >= SHORTEST_DOCUMENTATION_CONSTANT:
                        yield node.value
        else:
            for part in ("body", "orelse", "finalbody"):
                yield from _documentation_strings(getattr(statement, part, ()))


class _Layout:
    """What the lines of a text are by its layout, asked from the first line to the last."""

    PROSE = "prose"
    END = "end"  # no prose, and the paragraph above is whole
    NO_PROSE_ABOVE = "no prose above"  # no prose, nor were the lines above it: a table, a heading
    INSIDE = "inside"  # a line of what is passed over

    def __init__(self):
        self.in_fence = self.in_doctest = self.in_table = False
        # Indent of the line that opened a literal block; deeper lines belong to it.
        self.literal_above: int | None = None

    def kind(self, line: str) -> str:
        stripped = line.strip()
        if FENCE.match(stripped):
            self.in_fence = not self.in_fence
            return self.END
        if self.in_fence:
            return self.INSIDE
        if not stripped:
            self.in_doctest = self.in_table = False
            return self.END
        if self.literal_above is not None:
            if _depth(line) > self.literal_above:
                return self.INSIDE
            self.literal_above = None
        if self.in_doctest or stripped.startswith((">>>", "$ ", "In [", "Out[", "@")):
            self.in_doctest = True
            return self.END
        if self.in_table or TABLE.search(line):
            self.in_table = True
            return self.NO_PROSE_ABOVE
        # The line above an underline is a heading.
        return self.NO_PROSE_ABOVE if UNDERLINE.match(stripped) else self.PROSE


def _unwrapped(text: str) -> Iterator[str]:
    """Join hard-wrapped lines into paragraphs and leave out what the layout shows to be code, table or heading."""
    lines = inspect.cleandoc(text).expandtabs().splitlines()
    layout = _Layout()
    current: list[str] = []
    indent = 0
    hanging = False  # the paragraph began with a bullet or parameter name, so its second line may be indented

    def finished() -> Iterator[str]:
        if current:
            yield " ".join(current)
            current.clear()

    for number, line in enumerate(lines):
        stripped, depth = line.strip(), _depth(line)
        kind = layout.kind(line)
        if kind == layout.END:
            yield from finished()
        elif kind == layout.NO_PROSE_ABOVE:
            current.clear()
        if kind != layout.PROSE:
            continue
        if stripped.startswith((".. ", "..\n")) or stripped == "..":
            yield from finished()
            directive = DIRECTIVE.match(stripped)
            if directive is None or directive[1] not in PROSE_DIRECTIVES:
                layout.literal_above = depth
                continue
            stripped = directive[2].strip()
            if not stripped:
                continue
        if stripped.startswith("#") and not stripped.startswith("#!"):
            yield from finished()
            continue
        opening = BULLET.match(stripped)
        opening_end = opening.end() if opening else 0
        parameter = PARAMETER.match(stripped, opening_end)
        if opening or parameter or depth < indent or (depth > indent and not (hanging and len(current) == 1)):
            yield from finished()
        if not current:
            hanging = bool(opening or parameter)
            stripped = stripped[parameter.end() if parameter else opening_end :]
            if not parameter and HEADER.match(stripped) and _next_is_deeper(lines, number, depth):
                continue
        indent = depth
        if stripped:
            current.append(stripped)
        if stripped.endswith("::"):
            layout.literal_above = depth
            yield from finished()
    yield from finished()


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())


def _next_is_deeper(lines: list[str], number: int, depth: int) -> bool:
    following = lines[number + 1] if number + 1 < len(lines) else ""
    return not following.strip() or _depth(following) > depth


def _strip_markup(paragraph: str) -> str:
    # Most paragraphs have no markup, and one search is cheaper than twenty substitutions.
    if MARKUP.search(paragraph):
        for pattern, replacement in INLINE_MARKUP:
            paragraph = pattern.sub(replacement, paragraph)
    return " ".join(paragraph.split())


def _prose_or_none(paragraph: str) -> str | None:
    """The paragraph if it reads as English sentences, cut back to its last full sentence, else None."""
    if not SENTENCE_END.search(paragraph):
        # "…. For example:" announces a code block that is gone.
        complete = LAST_SENTENCE.match(paragraph)
        if complete is None:
            return None
        paragraph = complete[0]
    length = len(paragraph)
    if not SHORTEST_PARAGRAPH <= length <= LONGEST_PARAGRAPH or not paragraph.lstrip("\"'(")[:1].isupper():
        return None
    # An escape in a docstring that is not raw leaves control characters and lone surrogates, which no text file holds.
    if not paragraph.isprintable() or "://" in paragraph or "\\" in paragraph or LICENCE_TEXT.search(paragraph):
        return None
    if len(CODE_CHARACTERS.findall(paragraph)) > 0.012 * length:
        return None
    if len(NOT_PLAIN.findall(paragraph)) > 0.05 * length or len(NOT_A_LETTER.findall(paragraph)) > 0.26 * length:
        return None
    words = paragraph.split()
    if len(words) < 9 or sum(WORD.match(word) is not None for word in words) < 0.86 * len(words):
        return None
    function_words = [word for word in (word.strip("(),.;:").lower() for word in words) if word in FUNCTION_WORDS]
    if len(function_words) < 0.22 * len(words) or len(set(function_words)) < 3:
        return None
    return paragraph


def _is_new(paragraph: str, seen: set[bytes]) -> bool:
    """Whether no paragraph with the same plain lower-case words was seen; records this one.

    Names and numbers are left out of the comparison: libraries repeat one docstring for a hundred classes and change
    only the class name.
    """
    words = (word.strip("(),.;:!?\"'") for word in paragraph.split())
    key = " ".join(word for word in words if word.isalpha() and word.islower())
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    if digest in seen:
        return False
    seen.add(digest)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output-dir", required=True, help="folder that the text and its licences go to")
    folder = Path(parser.parse_args().output_dir)
    documents = collect_python_prose()
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join(documents) + "\n"
    (folder / TEXT).write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
    (folder / LICENCES).write_text(licences(), encoding="utf-8")
    print(f"{len(documents):,} documents, {len(text) / 1e6:.1f} MB of text, in {folder}")


if __name__ == "__main__":
    main()
