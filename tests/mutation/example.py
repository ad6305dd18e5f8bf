"""Something small to be mutated: does the harness find out what is tested, and say what is not?"""

from __future__ import annotations


def charged(amount: int, minimum: int) -> int:
    """Return what is charged: the amount, at least the minimum."""
    if amount < minimum:
        return minimum
    return amount + 0


def waited(turns: int) -> int:
    """Return how often something was waited for."""
    done = 0
    while done < turns:
        done += 1
    return done


def unheard() -> int:
    """Nobody asks this."""
    return 7
