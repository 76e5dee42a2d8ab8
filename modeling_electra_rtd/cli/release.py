"""`electra-rtd export` and `push`."""

import argparse
from pathlib import Path

from .verbs import MODEL, AddVerb


def add_verbs(add: AddVerb) -> None:
    _add_export(add)
    _add_push(add)


def _add_export(add: AddVerb) -> None:
    sub = add("export", _export, "write and verify a release that stock transformers loads")
    sub.add_argument("checkpoint", help=f"joint checkpoint: {MODEL}")
    sub.add_argument("--output-dir", required=True, help="a new folder for the release")
    sub.add_argument("--run-record", metavar="RUN.json", help="of the pre-training; by default the checkpoint's own")
    sub.add_argument("--results", nargs="+", metavar="RECORD.json", help="records of finetune from this checkpoint")
    sub.add_argument("--language", nargs="+", help="of the text, for the model card: en")
    sub.add_argument("--license", help="of the model, for the model card: apache-2.0")
    sub.add_argument(
        "--repo-id", metavar="OWNER/NAME", help="where it will go, for the lines of code in the model card"
    )
    sub.add_argument(
        "--remote-code",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="add the code that trust_remote_code=True runs, which makes a pair of the two networks again",
    )


def _export(arguments: argparse.Namespace) -> None:
    from ..release.export import export

    report = export(
        arguments.checkpoint,
        arguments.output_dir,
        run_record=arguments.run_record,
        results=arguments.results,
        language=arguments.language,
        license=arguments.license,
        remote_code=arguments.remote_code,
        repo_id=arguments.repo_id,
    )
    print(f"verified with stock transformers: {', '.join(report)} load with 0 missing keys and equal outputs")
    beside = ", generator in generator/" if "generator" in report else ""
    print(f"release in {arguments.output_dir} (discriminator at the root{beside}, card in README.md)")


def _add_push(add: AddVerb) -> None:
    sub = add("push", _push, "upload a release to the Hub in one commit, then read it back and compare")
    sub.add_argument("folder", help="what electra-rtd export or finetune left")
    sub.add_argument("repo_id", help="OWNER/NAME on the Hub")
    sub.add_argument(
        "--private", action=argparse.BooleanOptionalAction, help="of a new repository; by default the account's habit"
    )
    sub.add_argument("--dry-run", action="store_true", help="check everything and list files, sizes and hashes, only")
    sub.add_argument("--revision", help="branch to commit to, made where it is missing; by default main")
    sub.add_argument("--create-pr", action="store_true", help="open a pull request instead")
    sub.add_argument("--space", metavar="OWNER/NAME", help="also upload the demo of it, as a Space of this name")


def _push(arguments: argparse.Namespace) -> None:
    from ..inspection.space import check_space, push_space, space_files
    from ..release.upload import check_release, loading_lines, push

    if arguments.space:
        if arguments.revision or arguments.create_pr:
            raise ValueError("--space goes without --revision and --create-pr: the demo loads the main branch")
        check_space(arguments.space, arguments.repo_id)
    if arguments.dry_run:
        for file in check_release(arguments.folder)[0]:
            print(f"{file.size_bytes:>12,}  {file.sha256}  {file.path}")
        card = Path(arguments.folder) / "README.md"
        print(f"\n{card.read_text(encoding='utf-8')}" if card.is_file() else "\nthere is no README.md")
        if arguments.space:
            print(f"\nthe Space {arguments.space}:")
            for path, content in space_files(arguments.repo_id).items():
                print(f"{len(content):>12,}  {path}")
        print(f"nothing was uploaded to {arguments.repo_id}")
        return
    done = push(
        arguments.folder,
        arguments.repo_id,
        private=arguments.private,
        revision=arguments.revision,
        create_pr=arguments.create_pr,
    )
    print(f"{len(done['files'])} files in {done['url']}, read back and equal; stock transformers loads them\n")
    print(loading_lines(done["repo_id"], arguments.folder, done["revision"]))
    if arguments.space:
        print(f"\ndemo in {push_space(arguments.space, arguments.repo_id, private=arguments.private)}")
