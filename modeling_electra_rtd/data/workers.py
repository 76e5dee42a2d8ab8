"""Tasks spread over processes, with one progress count and a prompt end after an error or Ctrl-C."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any


POLL_SECONDS = 0.2


class Stopped(Exception):
    """Ends a task early because another one failed or the user pressed Ctrl-C."""


def run_tasks(
    function: Callable[..., Any],
    tasks: Sequence[tuple],
    processes: int,
    report: Callable[[int], object],
) -> list[Any]:
    """Call `function(*task, report)` for every task, in as many processes as there are tasks for; results in order.

    Processes are spawned, not forked: a fork would copy a tokenizer's or Arrow's thread pool without its threads.

    Raises:
        RuntimeError: a process died; with one process none is started.
    """
    processes = min(processes, len(tasks))
    if processes <= 1:
        return [function(*task, report) for task in tasks]
    context = multiprocessing.get_context("spawn")
    counter, stop = context.Value("q", 0), context.Event()
    reported = 0
    with ProcessPoolExecutor(processes, context, _start_worker, (counter, stop)) as pool:
        try:
            futures = [pool.submit(_run_in_worker, function, task) for task in tasks]
            pending = set(futures)
            while pending:
                finished, pending = wait(pending, timeout=POLL_SECONDS, return_when=FIRST_EXCEPTION)
                for future in finished:
                    future.result()
                count = counter.value
                report(count - reported)
                reported = count
            return [future.result() for future in futures]
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a worker process died: out of memory, or a script without `if __name__ == '__main__':`; "
                "num_proc=1 works without processes"
            ) from error
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def is_worker() -> bool:
    """Whether this process was started by `run_tasks`."""
    return _report is not _ignore


def _ignore(amount: int) -> None:
    pass


# In a worker process: counts progress for all of them, and ends the task once the parent says so.
_report: Callable[[int], None] = _ignore


def _start_worker(counter: Any, stop: Any) -> None:
    global _report
    # The terminal sends Ctrl-C to every process; only the parent answers it, by setting `stop`.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # One process per core is enough: tokenizer threads on top of it would only fight for the cores.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"

    def report(amount: int) -> None:
        if stop.is_set():
            raise Stopped
        with counter.get_lock():
            counter.value += amount

    _report = report


def _run_in_worker(function: Callable[..., Any], task: tuple) -> Any:
    return function(*task, _report)
