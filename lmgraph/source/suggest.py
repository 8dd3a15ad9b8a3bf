"""Did you mean: the names closest to a mistyped one. Knows nothing of the language."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def suggest(name: str, candidates: Iterable[str], limit: int = 3) -> list[str]:
    """The candidates a person may have meant by ``name``, the likeliest first, at most ``limit``.

    A candidate qualifies within a Damerau-Levenshtein distance of a third of the longer name (at least one edit),
    case set aside; ties are in alphabetical order. ``name`` itself is never suggested.
    """
    wanted = name.casefold()
    ranked: list[tuple[int, str]] = []
    for candidate in sorted(set(candidates)):
        if candidate == name:
            continue
        allowed = max(1, max(len(name), len(candidate)) // 3)
        folded = candidate.casefold()
        if abs(len(folded) - len(wanted)) > allowed:
            continue
        if min(len(folded), len(wanted)) <= 1 and folded != wanted:
            continue
        measured = distance(wanted, folded, allowed)
        if measured <= allowed:
            ranked.append((measured, candidate))
    ranked.sort(key=lambda pair: pair[0])
    return [candidate for _, candidate in ranked[:limit]]


def distance(left: str, right: str, most: int) -> int:
    """Edits from ``left`` to ``right``: insert, delete, replace, swap of neighbours. Gives up above ``most``.

    The restricted form (optimal string alignment): no substring is edited twice.

    Returns:
        The distance, or ``most + 1`` for anything farther.
    """
    # What both begin or end with costs nothing.
    start = next((at for at, (one, other) in enumerate(zip(left, right, strict=False)) if one != other), None)
    if start is None:
        return min(abs(len(left) - len(right)), most + 1)
    left, right = left[start:], right[start:]
    while left and right and left[-1] == right[-1]:
        left, right = left[:-1], right[:-1]
    before_last: list[int] = []
    last = list(range(len(right) + 1))
    for row, left_char in enumerate(left, start=1):
        current = [row]
        for column, right_char in enumerate(right, start=1):
            cost = 0 if left_char == right_char else 1
            best = min(last[column] + 1, current[column - 1] + 1, last[column - 1] + cost)
            swapped = row > 1 and column > 1 and left_char == right[column - 2] and left[row - 2] == right_char
            if swapped:
                best = min(best, before_last[column - 2] + 1)
            current.append(best)
        if min(current) > most and (not last or min(last) > most):
            return most + 1
        before_last, last = last, current
    return min(last[-1], most + 1)


def did_you_mean(name: str, candidates: Iterable[str]) -> str | None:
    """The words for a help line, such as "did you mean `claim` or `claims`?", or None where nothing is close."""
    return question(suggest(name, candidates))


def question(names: Sequence[str]) -> str | None:
    """The words of a help line that asks whether one of the names was meant; None where there is none."""
    close = [f"`{name}`" for name in names]
    if not close:
        return None
    if len(close) == 1:
        return f"did you mean {close[0]}?"
    return f"did you mean {', '.join(close[:-1])} or {close[-1]}?"
