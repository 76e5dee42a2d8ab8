"""A process with the real client that runs many orders against the local Hub: importing takes longer than pushing."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from helpers.hub_server import TOKENS


# Waiting is not what is tested, and stock loading, a process of its own, only where an order asks for it.
_CLIENT = """
import contextlib, io, json, os, sys, time, traceback
from modeling_electra_rtd.cli.main import main
from modeling_electra_rtd.release import hub_client, upload as hub

hub_client._WAIT_SECONDS = (0, 0, 0)
time.sleep = lambda seconds: None
stock_outputs = hub.stock_outputs
for line in sys.stdin:
    order = json.loads(line)
    os.environ.pop("HF_TOKEN", None)
    if order["token"]:
        os.environ["HF_TOKEN"] = order["token"]
    hub.stock_outputs = stock_outputs if order["loads"] else lambda folder: {"root": {"missing": []}}
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        try:
            code = main(order["arguments"]) if "arguments" in order else exec(order["code"], {})
        except SystemExit as error:
            code = error.code
        except BaseException:
            traceback.print_exc()
            code = 1
    sys.stderr.flush()
    print(json.dumps([code or 0, output.getvalue()]), flush=True)
"""


# The package cannot be imported, whatever else would find it.
_STRANGER = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "modeling_electra_rtd":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
"""


class HubClient:
    """One process that runs one command of the package, or a piece of Python, after the other.

    Args:
        address: of the Hub.
        folder: for what the process says, and its cache.
    """

    def __init__(self, address: str, folder: Path):
        self._said = folder / "stderr.txt"
        self._stderr = self._said.open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CLIENT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            env=_environment(address, folder),
            cwd=folder,
        )

    def run(self, *arguments: str, account: str | None = "writer", loads: bool = False) -> SimpleNamespace:
        """The command line of the package.

        Returns:
            `returncode`, `stdout` and `stderr`.
        """
        return self._ordered({"arguments": list(arguments)}, account, loads)

    def execute(self, code: str, account: str | None = "writer", loads: bool = False) -> SimpleNamespace:
        """Python; a `SystemExit` is its return code."""
        return self._ordered({"code": code}, account, loads)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._stderr.close()

    def _ordered(self, order: dict, account: str | None, loads: bool) -> SimpleNamespace:
        start = self._said.stat().st_size
        token = None if account is None else TOKENS[account]
        self._process.stdin.write(json.dumps({**order, "token": token, "loads": loads}) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        said = self._said.read_bytes()[start:].decode()
        assert answer, said
        code, output = json.loads(answer)
        return SimpleNamespace(returncode=code, stdout=output, stderr=said)


def run_stranger(address: str, folder: Path, code: str, account: str = "writer") -> subprocess.CompletedProcess:
    """Python in a process without the package.

    Args:
        folder: for its cache.
    """
    return subprocess.run(
        [sys.executable, "-c", _STRANGER + code],
        capture_output=True,
        text=True,
        env=_environment(address, folder) | {"HF_TOKEN": TOKENS[account]},
        cwd=folder,
    )


def _environment(address: str, folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    ours = {"HF_ENDPOINT": address, "HF_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    # With it, the client itself sends weights to no server but one that speaks Xet.
    return kept | ours | {"HF_HUB_DISABLE_XET": "1"}
