"""The page of the demo in a real browser: typing, clicking, reading the heat map. Nothing leaves this machine."""

import sys
from contextlib import ExitStack

import pytest
from helpers.browser import Browser, chromium
from helpers.tiny import randomize, tiny_pair, tiny_tokenizer
from transformers import ElectraForPreTraining

from modeling_electra_rtd.cli.main import main
from modeling_electra_rtd.inspection.demo import generate, load_detector, verdicts, verdicts_on_edit
from modeling_electra_rtd.inspection.demo_app import build_app, launch


pytest.importorskip("gradio", reason="gradio is not installed: pip install electra-rtd[demo]")

needs_browser = pytest.mark.skipif(chromium() is None, reason="no chromium in PATH")


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    tiny_pair("electra").save_pretrained(folder)
    tiny_tokenizer(folder)
    return load_detector(str(folder))


@pytest.fixture(scope="module")
def lone(detector, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lone")
    randomize(ElectraForPreTraining(detector.model.config.discriminator_config)).save_pretrained(folder)
    tiny_tokenizer(folder)
    return load_detector(str(folder))


@pytest.fixture
def page():
    """Opens the page of a detector in a browser; whatever else it fetched or complained of fails the test."""
    with ExitStack() as stack:

        def open_page(detector) -> Browser:
            app = build_app(detector, "lab/<b>pair")
            stack.callback(app.close)
            address = launch(app, wait=False)
            assert address.startswith("http://127.0.0.1:")
            browser = stack.enter_context(Browser())
            browsers.append(browser)
            browser.open(address)
            browser.wait("document.querySelector('.heat') !== null")
            return browser

        browsers: list[Browser] = []
        yield open_page
        for browser in browsers:
            assert not browser.errors
            local = ("http://127.0.0.1:", "data:", "blob:", "about:")
            assert browser.requests and not [url for url in browser.requests if not url.startswith(local)]


def open_edits(browser: Browser) -> None:
    """The second tab; a press while the page is still being put together is lost."""
    tab = "button[role=tab]:nth-of-type(2)"
    for _ in range(10):
        browser.click(tab)
        if browser.run(f"document.querySelector('{tab}').ariaSelected") == "true":
            return
    raise AssertionError("the second tab does not open")


def tokens_on(browser: Browser, place: str) -> list[tuple[str, str]]:
    """Tokens and probabilities of a heat map, as they are read."""
    cells = browser.run(
        f"[...document.querySelectorAll('{place} .token')].map(e => [e.querySelector('b').innerText, "
        "e.querySelector('i').innerText])"
    )
    return [tuple(cell) for cell in cells]


def expected(tokens) -> list[tuple[str, str]]:
    return [(token.shown, f"{token.replaced_probability:.2f}") for token in tokens]


def wait_for_tokens(browser: Browser, place: str, tokens: list[tuple[str, str]]) -> None:
    words = [word for word, _ in tokens]
    found = f"[...document.querySelectorAll('{place} .token b')].map(e => e.innerText)"
    browser.wait(f"JSON.stringify({found}) === JSON.stringify({words!r})")
    assert tokens_on(browser, place) == tokens


@needs_browser
def test_a_text_is_typed_masked_filled_and_judged(detector, page):
    browser = page(detector)
    text = "the cat sat on a mat and the dog sat"
    browser.type("#sentence textarea", text)
    chips = "[...document.querySelectorAll('#positions label')]"
    browser.wait(f"{chips}.map(e => e.innerText.trim()).join(' ') === {text!r}")
    # Only the second and the ninth word.
    for index in range(10):
        checked = browser.run(f"{chips}[{index}].querySelector('input').checked")
        if checked != (index in (1, 8)):
            browser.click(f"#positions label:nth-of-type({index + 1})")
            browser.wait(f"{chips}[{index}].querySelector('input').checked === {str(not checked).lower()}")
    generated = generate(detector, text, [1, 8], seed=0)
    wait_for_tokens(browser, "#generated", expected(verdicts(detector, generated)))
    rows = browser.run(
        "[...document.querySelectorAll('#proposals p')].map(e => [e.querySelector('span').firstChild.textContent, "
        "e.querySelector('small')?.innerText ?? '', e.lastElementChild.innerText])"
    )
    assert rows == [
        [p.token, ", ".join(["original"] * p.is_original + ["drawn"] * p.is_drawn), f"{p.probability:.3f}"]
        for proposals in generated.proposals
        for p in proposals
    ]
    # Filled again: the next seed.
    browser.click("#again")
    again = generate(detector, text, [1, 8], seed=1)
    assert again.ids != generated.ids
    wait_for_tokens(browser, "#generated", expected(verdicts(detector, again)))
    # The generator's text goes on to the other page, to be changed there.
    open_edits(browser)
    browser.click("#from-generator")
    browser.wait(f"document.querySelector('#edited textarea').value === {again.text!r}")
    wait_for_tokens(browser, "#judged", expected(verdicts_on_edit(detector, again.text, text)))


@needs_browser
def test_positions_are_drawn(detector, page):
    browser = page(detector)
    checked = "[...document.querySelectorAll('#positions input')].map(e => e.checked).join()"
    before = browser.run(checked)
    browser.click("#draw")
    browser.wait(f"{checked} !== {before!r}")
    count = browser.run("document.querySelectorAll('#positions input:checked').length")
    browser.wait(f"document.querySelectorAll('#proposals section').length === {count}")
    browser.type("#sentence textarea", " ")
    browser.wait("document.querySelector('#generated').innerText.includes('at least one token')")


@needs_browser
def test_ones_own_edits_are_judged_as_they_are_typed(detector, page):
    browser = page(detector)
    open_edits(browser)
    browser.type("#edited textarea", "the dog <b> sat & sat")
    wait_for_tokens(browser, "#judged", expected(verdicts_on_edit(detector, "the dog <b> sat & sat")))
    browser.click("#from-sentence")
    browser.wait("document.querySelectorAll('#judged .token').length > 10")
    assert not browser.run("document.querySelectorAll('#judged .token.replaced').length")


@needs_browser
def test_a_lone_discriminator_has_the_edits_only(lone, page):
    browser = page(lone)
    assert "This checkpoint has no generator" in browser.text("body")
    assert browser.run("document.querySelectorAll('#draw, #sentence, [role=tab]').length") == 0
    browser.type("#edited textarea", "the dog sat")
    wait_for_tokens(browser, "#judged", expected(verdicts_on_edit(lone, "the dog sat")))


def test_impossible_ports_are_refused(detector, capsys):
    assert main(["demo", detector.model.name_or_path, "--port", "70000"]) == 2
    assert "port is 70000; it must be in [1, 65535]" in capsys.readouterr().err


def test_without_gradio_one_line_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["demo", "no-such-model"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        'electra-rtd demo: error: the demo needs gradio, which is not installed: pip install "electra-rtd[demo]"'
    ]
