"""The float and int8 networks that a target wrote, against those of the run."""

from __future__ import annotations

from collections.abc import Iterator

from .layout import Answer


def float_rows(answer: Answer | None) -> Iterator[tuple[str, str]]:
    """A row for each network's closeness, and for its accuracy where that is known."""
    if answer is None:
        return
    count = f"{answer['samples']:,} samples"
    for name, facts in answer["models"].items():
        if facts["accuracy"] is not None:
            yield f"accuracy, {name} ({count})", f"{facts['accuracy']:.4f}"
        if "same_prediction" in facts:
            exact = name.removesuffix("-int8")
            yield f"same prediction, {name} and {exact}", f"{facts['same_prediction']:.4f}"
            continue
        closeness = f"{facts['predictions_that_differ']:,}; {_logits(facts, answer['tolerance'])}"
        yield f"predictions that differ, {name} and {answer['reference']}", closeness
    for line in answer["unexplained"]:
        yield "unexplained", line


def _logits(facts: Answer, tolerance: float) -> str:
    beyond = facts["samples_beyond_tolerance"]
    if not beyond:
        return f"logits up to {facts['largest_difference']:.1e} apart"
    within = f"logits up to {facts['largest_difference_within_tolerance']:.1e} apart"
    nearest = facts.get("nearest_to_threshold")
    why = "" if nearest is None else f": a potential within {nearest:.1e} of its threshold in each"
    return f"{within}, but in {beyond:,} samples more than {tolerance:g}{why}"
