"""Lines of files: compressed or not, with any line end, and refused by name where they are no text."""

import bz2
import gzip
import lzma

import pytest
import zstandard

from modeling_electra_rtd.data.text_files import compression, data_suffix, decoded_lines, text_lines


LINES = ["first", "", "zweite mit ä", 'dritte "mit" \x85 und \u2028']


def zstandard_open(path, mode):
    return zstandard.ZstdCompressor().stream_writer(open(path, mode))


@pytest.mark.parametrize(
    ("suffix", "opened"),
    [("", open), (".gz", gzip.open), (".bz2", bz2.open), (".xz", lzma.open), (".zst", zstandard_open)],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_lines_are_cut_at_line_ends_alone(tmp_path, suffix, opened, line_end):
    path = str(tmp_path / f"a.txt{suffix}")
    with opened(path, "wb") as file:
        file.write(b"\xef\xbb\xbf" + line_end.join(LINES).encode())
    assert list(text_lines(path)) == LINES
    assert "".join(decoded_lines(path)) == line_end.join(LINES)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"a\nb\xff\n", "not UTF-8 \\(byte 0xff at offset 3\\)"),
        ("a\n".encode("utf-16"), "not UTF-8|binary file"),
        (b"a\0", "binary file \\(NUL byte at offset 1\\)"),
    ],
)
def test_what_is_no_text_is_refused_by_name(tmp_path, content, problem):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(ValueError, match=f"a.txt: ({problem})"):
        list(text_lines(str(tmp_path / "a.txt")))
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"a\n" * 1000)[:-9])
    with pytest.raises(ValueError, match="b.txt.gz: cannot be read"):
        list(text_lines(str(tmp_path / "b.txt.gz")))


def test_suffixes():
    assert (compression("a.CSV.gz"), data_suffix("a.CSV.gz")) == (".gz", ".csv")
    assert (compression("a.tsv"), data_suffix("a.tsv")) == (None, ".tsv")


@pytest.mark.parametrize("frames", [1, 3])
def test_a_zstd_file_that_was_cut_off_is_refused(frames, tmp_path):
    import zstandard

    lines = [f"line {number} {number * number}\n" for number in range(30_000)]
    parts = ["".join(lines[i::frames]) for i in range(frames)]
    whole = b"".join(zstandard.ZstdCompressor().compress(part.encode()) for part in parts)
    path = tmp_path / "text.txt.zst"
    path.write_bytes(whole)
    assert "".join(decoded_lines(str(path))) == "".join(parts)
    for size in (len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"text.txt.zst: cannot be read \(the file ends within compressed data\)"):
            list(decoded_lines(str(path)))
