import os
import time

import pytest

from modeling_electra_rtd.common.progress import progress_bar
from modeling_electra_rtd.data.workers import run_tasks


def double(number, report):
    report(number)
    return 2 * number, os.getpid()


def die(number, report):
    os._exit(1)


def fail_or_wait(number, report):
    if number == 0:
        raise ValueError("number=0: allowed is 1 or more")
    for _ in range(600):
        time.sleep(0.1)
        report(1)


@pytest.mark.parametrize("processes", [1, 2])
def test_results_in_order_and_progress(processes):
    reported = []
    results = run_tasks(double, [(number,) for number in range(20)], processes, reported.append)
    assert [result for result, _ in results] == [2 * number for number in range(20)]
    assert sum(reported) == sum(range(20))
    assert ({process for _, process in results} == {os.getpid()}) == (processes == 1)


def test_no_more_processes_than_tasks():
    assert run_tasks(double, [(3,)], 8, lambda amount: None) == [(6, os.getpid())]
    assert run_tasks(double, [], 8, lambda amount: None) == []


def test_an_error_stops_the_other_tasks():
    started = time.perf_counter()
    with pytest.raises(ValueError, match="number=0"):
        run_tasks(fail_or_wait, [(1,), (0,), (2,), (3,)], 2, lambda amount: None)
    assert time.perf_counter() - started < 30


def test_ctrl_c_stops_the_tasks():
    def interrupt(amount):
        if amount:
            raise KeyboardInterrupt

    started = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        run_tasks(fail_or_wait, [(1,), (2,), (3,)], 2, interrupt)
    assert time.perf_counter() - started < 30


def test_dead_process_is_explained():
    with pytest.raises(RuntimeError, match="a worker process died"):
        run_tasks(die, [(1,), (2,)], 2, lambda amount: None)


def test_progress_bar_can_be_invisible(capsys):
    for visible in (True, False):
        with progress_bar("reading", 10, visible) as bar:
            bar.update(10)
        assert ("reading" in capsys.readouterr().err) == visible
