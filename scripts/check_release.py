"""Build a release and check it as a stranger would meet it: installed from the wheel, outside of the tree."""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import modeling_electra_rtd


ROOT = Path(__file__).parents[1]
# What a newcomer would type first; a plan reads a shipped recipe and needs no data.
COMMANDS = (
    ["--version"],
    ["plan", "tiny", "--vocab-size", "1000", "--device", "h200", "--max-steps", "10"],
)


def stated_versions() -> dict[str, str]:
    """Read the version where it is stated: in the package, the citation and the changelog's newest heading."""
    citation = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    heading = re.search(r"^## \[([^]]+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert citation is not None and heading is not None
    return {
        "modeling_electra_rtd": modeling_electra_rtd.__version__,
        "CITATION.cff": citation[1],
        "CHANGELOG.md": heading[1],
    }


def build(folder: Path) -> Path:
    """Build the source distribution, and the wheel from it; returns the wheel."""
    subprocess.run([sys.executable, "-m", "build", "--outdir", folder, ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def try_out(wheel: Path) -> None:
    """Install a wheel in a new environment with the tested versions, and run the command there."""
    with tempfile.TemporaryDirectory() as scratch:
        environment = Path(scratch, "environment")
        venv.create(environment, with_pip=True)
        python = environment / "bin" / "python"
        install = [python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", wheel]
        subprocess.run(install, check=True, cwd=scratch)
        for command in COMMANDS:
            subprocess.run([environment / "bin" / "electra-rtd", *command], check=True, cwd=scratch)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--dist", type=Path, default=ROOT / "dist", help="where the files go; what is there is deleted"
    )
    arguments = parser.parse_args(argv)
    versions = stated_versions()
    if len(set(versions.values())) > 1:
        print(f"check_release: error: versions differ: {versions}", file=sys.stderr)
        return 2
    shutil.rmtree(arguments.dist, ignore_errors=True)
    try_out(build(arguments.dist))
    print(
        f"{', '.join(sorted(path.name for path in arguments.dist.iterdir()))} in {arguments.dist}: ready (RELEASE.md)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
