"""Which columns are words and tags: told, chosen by number or name, or refused in one line."""

import pytest

from modeling_electra_rtd.finetuning.token_files import open_token_file, tagged_sentences
from modeling_electra_rtd.finetuning.token_layouts import find_layout


GERMEVAL = (
    "#\thttp://example.org/1 [2020]\n1\tAnn\tB-PER\tO\n2\tliest\tO\tO\n3\tDie\tB-ORG\tB-LOC\n4\tZeit\tI-ORG\tO\n"
)
CONLL2003 = "-DOCSTART- -X- O O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\nGerman JJ B-NP B-MISC\ncall NN I-NP O\n"
CONLLU = "1\tIt\tit\tPRON\tPRP\t_\t2\tnsubj\t_\t_\n2\trains\train\tVERB\tVBZ\t_\t0\troot\t_\t_\n"


def layout(folder, content: str, *given):
    path = folder / "train.conll"
    path.write_text(content, encoding="utf-8")
    file = open_token_file(path)
    found = find_layout(file, *given)
    tokens, tags = zip(*tagged_sentences(file, found.token_column, found.tag_column), strict=True)
    return found, tokens[0], tags[0]


@pytest.mark.parametrize(
    ("content", "given", "tokens", "tags"),
    [
        (GERMEVAL, (), "Ann liest Die Zeit", "B-PER O B-ORG I-ORG"),
        (GERMEVAL, (None, "3"), "Ann liest Die Zeit", "O O B-LOC O"),
        (GERMEVAL, (None, "-1"), "Ann liest Die Zeit", "O O B-LOC O"),
        (CONLL2003, (), "EU rejects German call", "B-ORG O B-MISC O"),
        (CONLL2003, (None, "1"), "EU rejects German call", "NNP VBZ JJ NN"),
        (CONLLU, (), "It rains", "PRON VERB"),
        (CONLLU, (None, "XPOS"), "It rains", "PRP VBZ"),
        (CONLLU, ("lemma", "deprel"), "it rain", "nsubj root"),
        ("Ann\tB-x\t0.98\tdoc1\nis\tO\t0.5\tdoc1\nhere\tO\t0.7\tdoc1\n", (), "Ann is here", "B-x O O"),
        ("doc1\t0\tAnn\tN\ndoc1\t1\tis\tV\ndoc1\t2\tAnn\tN\n", (), "Ann is Ann", "N V N"),
        ("1-1\t0-3\tAnn\tB-x\n1-2\t4-6\tis\tO\n", (), "Ann is", "B-x O"),
        # The tag before its word.
        ("B-x\tAnn\nO\tis\nO\there\n", (), "Ann is here", "B-x O O"),
        ("word tag\nAnn N\nis V\n", (None, "tag"), "Ann is", "N V"),
        ("# global.columns = ID FORM NE\n1\tAnn\tB-x\n2\tis\tO\n", (None, "ne"), "Ann is", "B-x O"),
    ],
)
def test_columns_are_found_or_chosen(tmp_path, content, given, tokens, tags):
    _, found_tokens, found_tags = layout(tmp_path, content, *given)
    assert (found_tokens, found_tags) == (tokens.split(), tags.split())


def test_the_choice_is_said(tmp_path):
    found, _, _ = layout(tmp_path, GERMEVAL)
    assert found.described() == "words in column 1, tags in column 2 (--label-column chooses another: 3)"
    assert layout(tmp_path, CONLLU)[0].described() == "words in column 1 (form), tags in column 3 (upos)"


MANY = "".join(f"w{i}\tl{i}\n" for i in range(12))


@pytest.mark.parametrize(
    ("content", "given", "message"),
    [
        (GERMEVAL, ("0",), "token_column is 0, which counts the tokens"),
        (GERMEVAL, (None, "0"), "column 0 counts the tokens; give --label-column"),
        (GERMEVAL, (None, "9"), "label_column is 9; it must be below 4"),
        (GERMEVAL, (None, "tag"), "no column 'tag'; its columns have no names"),
        (GERMEVAL, ("1", "1"), "are both 1; each must have its own"),
        (CONLLU, (None, "upso"), "no column 'upso'; did you mean 'upos'"),
        (CONLLU, (None, "feats"), r"column 5 \(feats\) holds nothing but '_'"),
        ("1\tAnn\n2\tis\n", (), "column 0 counts the tokens"),
        ("Ann 102\nis 37\nhere 9\n", (), "holds 3 different numbers for 3 tokens, which are no tags"),
        ("Ann http://x.org/1\nis http://x.org/2\n", (), "holds addresses such as 'http://x.org/1'"),
        (MANY, (), "holds another value for each of 12 tokens, which are no tags"),
        ("Ann\tN\tann\nis\tV\tbe\nAnn\tN\tann\n", (), "which column holds the tags\\? give --label-column"),
        ("Ann\nis\n", (), "line 1: 1 columns, expected at least 2"),
        ("N Ann\nN Eva\nV left\nV sat\n", (), "holds 4 different values, and column 0, the words, 2"),
        ("Ann O\nis O\n", (), "holds nothing but 'O'"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, content, given, message):
    with pytest.raises(ValueError, match=message):
        layout(tmp_path, content, *given)
