"""Metric functions that golden tests name, rightly and wrongly."""


def exact(gold: dict[str, object], pred: dict[str, object]) -> bool:
    return gold["label"] == pred["label"]


def lonely(gold: dict[str, object]) -> float:
    return float(len(gold))


async def slow(gold: dict[str, object], pred: dict[str, object]) -> float:
    return 0.0
