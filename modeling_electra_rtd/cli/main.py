"""`electra-rtd <verb>`: parse, run the verb, and turn bad input into one line and exit code 2.

Flags take `--like-this` and `--like_this`; `--debug` shows the traceback of an error.
"""

import argparse
import os
import sys
from collections.abc import Callable

from .. import __version__
from ..common.stopping import Stopped, TrainingFault, terminated_as_interrupted
from . import conversion, data, finetuning, inspection, pretraining, release
from .verbs import AddVerb


def main(argv: list[str] | None = None) -> int:
    """Run a verb; returns the exit code."""
    argv = [_dashed(argument) for argument in (sys.argv[1:] if argv is None else argv)]
    if argv[:1] == ["finetune"]:
        argv = _with_named_recipe(argv)
    parser = build_parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and not hasattr(arguments, "overrides"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        if hasattr(arguments, "overrides"):
            arguments.overrides = _overrides(rest)
        with terminated_as_interrupted():
            arguments.run(arguments)
        sys.stdout.flush()
    except Stopped as stopped:
        print(f"electra-rtd: {stopped}", file=sys.stderr)
        return stopped.exit_code
    except KeyboardInterrupt:
        print("electra-rtd: stopped", file=sys.stderr)
        return 130
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_left():
            return 141  # 128 + SIGPIPE, as of any program behind whose pipe nobody reads
        if arguments.debug or not _is_user_error(error):
            raise
        print(f"electra-rtd {arguments.verb}: error: {_one_line(error)}", file=sys.stderr)
        return 2
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser of all verbs, those of each wing in a file of its name."""
    parser = argparse.ArgumentParser(
        prog="electra-rtd",
        description="Pre-train any Hugging Face encoder with replaced-token detection.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"electra-rtd {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="verb", required=True)

    def add(name: str, run: Callable[[argparse.Namespace], None], help_text: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(
            name,
            help=help_text,
            description=help_text,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
            # The beginning of an option's name may be a field of the recipe, or a slip.
            allow_abbrev=False,
        )
        sub.set_defaults(run=run)
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        return sub

    _add_quickstart(add)
    for wing in (data, pretraining, finetuning, release, conversion, inspection):
        wing.add_verbs(add)
    return parser


def _add_quickstart(add: AddVerb) -> None:
    sub = add("quickstart", _quickstart, "offline in minutes: corpus, tokenizer, pre-training, fine-tuning, release")
    sub.add_argument("--output-dir", default="runs/quickstart", help="a new folder for everything it makes")
    sub.add_argument("--seconds", type=float, default=250, help="of pre-training, whatever this machine does in them")
    sub.add_argument("--max-steps", type=int, default=None, help="optimizer steps, instead of seconds")


def _quickstart(arguments: argparse.Namespace) -> None:
    from ..quickstart import quickstart

    quickstart(arguments.output_dir, arguments.max_steps, arguments.seconds)


def _dashed(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value


def _with_named_recipe(argv: list[str]) -> list[str]:
    """`... RECIPE.yaml` as `--recipe RECIPE.yaml`: an option that takes any number of values would swallow it."""
    for position, argument in enumerate(argv):
        if argument.endswith((".yaml", ".yml")) and not argument.startswith("--") and argv[position - 1] != "--recipe":
            return [*argv[:position], *argv[position + 1 :], "--recipe", argument]
    return argv


def _overrides(rest: list[str]) -> dict[str, str]:
    """`--field value`, `--field=value` and lone `--flag` (true) as a dict of field names."""
    overrides: dict[str, str] = {}
    position = 0
    while position < len(rest):
        name, equals, value = rest[position].partition("=")
        if not name.startswith("--"):
            raise ValueError(f"{name!r} stands alone; options look like --field value")
        if not equals and position + 1 < len(rest) and not rest[position + 1].startswith("--"):
            position += 1
            value = rest[position]
        elif not equals:
            value = "true"
        overrides[name[2:].replace("-", "_")] = value
        position += 1
    return overrides


def _reader_left() -> bool:
    """Whether standard output leads nowhere any more, as before `head`; then nothing is left to be written there."""
    try:
        # Not a flush alone: what could not be written is not always kept for another attempt.
        print(flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _is_user_error(error: Exception) -> bool:
    """Errors that say what the user can change; anything else is ours and keeps its traceback."""
    from huggingface_hub.errors import HfHubHTTPError, StrictDataclassError

    return isinstance(error, ValueError | OSError | TrainingFault | StrictDataclassError | HfHubHTTPError)


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    # The strict dataclass puts the reason on its last line, below a heading.
    return (
        (lines[-1] if type(error).__name__.startswith("StrictDataclass") else " ".join(lines))
        if lines
        else repr(error)
    )
