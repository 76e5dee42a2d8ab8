"""Requests to stop: SIGTERM and SIGINT end a run at a moment of its choice, and a second one ends it at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


# Exit codes are the shell's: 128 and the number of the signal.
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(Exception):
    """Ends a command that was asked to stop and has saved what there was to save.

    Attributes:
        signal_number: of the signal that asked.
    """

    def __init__(self, signal_number: int, message: str):
        super().__init__(message)
        self.signal_number = signal_number

    @property
    def exit_code(self) -> int:
        return 128 + self.signal_number


class TrainingFault(RuntimeError):
    """Ends a run that cannot go on, in one line that says what to change."""


class StopRequest:
    """Whether this process was asked to stop, and by which signal."""

    def __init__(self) -> None:
        self.signal_number: int | None = None

    def __bool__(self) -> bool:
        return self.signal_number is not None

    @contextmanager
    def listening(self) -> Iterator["StopRequest"]:
        """Note SIGTERM and SIGINT instead of dying of them; the second one raises `KeyboardInterrupt` at once.

        Signals reach the main thread alone: in any other nothing changes.
        """
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        owner = os.getpid()

        def note(number: int, frame: FrameType | None) -> None:
            if os.getpid() != owner:
                # A forked worker inherits this; its parent says when it has to end.
                if number == signal.SIGTERM:
                    os._exit(128 + number)
                return
            if self:
                raise KeyboardInterrupt
            self.signal_number = number

        before = {number: signal.signal(number, note) for number in SIGNALS}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM raise `Stopped`, so that what was begun is undone as after an error or Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:
            os._exit(128 + number)
        raise Stopped(number, "stopped by SIGTERM")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
