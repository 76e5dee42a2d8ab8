"""The nearest allowed name to one that is misspelt."""

import difflib
from typing import Any


def nearest(name: str, allowed: Any) -> str:
    """A suggestion for a misspelt name: `"; did you mean 'hidden_size'?"`, or the allowed names if none is close."""
    allowed = sorted(allowed)
    close = difflib.get_close_matches(name, allowed, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; allowed: {', '.join(allowed)}"
