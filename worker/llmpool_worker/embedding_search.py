"""Which inputs of a failed call are the bad ones: bisection. Pure: the caller asks the server and tells what came."""

from __future__ import annotations

from collections.abc import Generator
from enum import Enum, auto


class Found(Enum):
    """What is known of a range of inputs."""

    GOOD = auto()
    BAD = auto()
    """All of them."""
    MIXED = auto()
    UNASKED = auto()


Steps = Generator[slice, bool | None, Found]


def search(start: int, stop: int, *, surely_bad: bool = False) -> Steps:
    """Ranges to ask, one after the other; each is answered by whether it failed, None: nobody wants it any more.

    The first is the whole, unless it is ``surely_bad``. A range that failed is halved. Once its left half was good, the
    fault must be in the right one, and once all of the left was bad, it probably is too: then the right half isn't
    asked as a whole. That makes, for k bad inputs of n, at most 1 + 2 k ceil(log2 n) calls, never more than 2 n - 1,
    and about 1.5 n where all are bad.
    """
    if stop - start == 1 or not surely_bad:
        failed = yield slice(start, stop)
        if not failed:
            return Found.UNASKED if failed is None else Found.GOOD
        if stop - start == 1:
            return Found.BAD
    middle = (start + stop + 1) // 2
    left = yield from search(start, middle)
    right = yield from search(middle, stop, surely_bad=left in (Found.GOOD, Found.BAD))
    return left if left is right else Found.MIXED


def failures_of_one(inputs: int) -> int:
    """How many ranges fail on the way to a single bad one of ``inputs``, the whole among them: 1 + ceil(log2 n)."""
    return 1 + (inputs - 1).bit_length()
