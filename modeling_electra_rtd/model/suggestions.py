"""The nearest allowed name to one that is misspelt."""

import difflib
from typing import Any


# A longer list in a message hides what the message says.
_MOST_NAMES = 40


def nearest(name: str, allowed: Any) -> str:
    """A suggestion for a misspelt name: `"; did you mean 'hidden_size'?"`, or the allowed names if none is close."""
    allowed = sorted(allowed)
    close = difflib.get_close_matches(name, allowed, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    if len(allowed) > _MOST_NAMES:
        return f"; none of the {len(allowed)} allowed names is like it"
    return f"; allowed: {', '.join(allowed)}"
