"""What the measures of attention say, in sentences that a person can act on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from layerlab.graph.attention_measures import Correlation, Head

if TYPE_CHECKING:
    from layerlab.graph.attention_report import Layer, Replaced

# A mean in its place moves this share of the weight or less.
NEAR_UNIFORM = 0.05
# Below this, most of the entropy that the neighbours offer is gone.
SHARP = 0.5
# Of a rank correlation: what is smaller is not worth a sentence of its own, however sure.
CLEAR = 0.1


def findings_of(
    layers: Sequence[Layer], everywhere: Replaced, accuracy: float | None, part: str | None, measured: int
) -> tuple[str, ...]:
    """One sentence a finding, layer by layer.

    Args:
        layers: measured.
        everywhere: the model with a mean in place of attention in every layer.
        accuracy: of the model as trained.
        part: of which nodes.
        measured: nodes with a choice.
    """
    if not measured:
        return ("no node has a neighbour besides itself: attention has nothing to choose from",)
    found: list[str] = []
    for layer in layers:
        found += _spread(layer)
        found += _along(layer, "label agreement", lambda head: head.agreement, _agreement)
        found += _along(layer, "the sender's degree", lambda head: head.degree, _degree)
        found.append(_itself(layer))
        if len(layers) > 1:
            found.append(_replaced(f"in layer {layer.layer}", layer.uniform, accuracy, part))
    found.append(_replaced("in every layer" if len(layers) > 1 else "", everywhere, accuracy, part))
    return tuple(found)


def _who(heads: Sequence[Head], layer: Layer) -> tuple[str, str]:
    """ "all 8 heads of layer 1", and the ending of the verb that follows."""
    if len(layer.heads) == 1:
        return f"the head of layer {layer.layer}", "s"
    if len(heads) == len(layer.heads):
        return f"all {len(heads)} heads of layer {layer.layer}", ""
    if len(heads) == 1:
        return f"head {heads[0].head} of layer {layer.layer}", "s"
    numbers = [str(head.head) for head in heads]
    return f"heads {', '.join(numbers[:-1])} and {numbers[-1]} of layer {layer.layer}", ""


def _range(values: Sequence[float], form: Callable[[float], str]) -> str:
    """ "0.97", or "0.97 to 0.99"."""
    low, high = form(min(values)), form(max(values))
    return low if low == high else f"{low} to {high}"


def _spread(layer: Layer) -> list[str]:
    near = [head for head in layer.heads if head.moved <= NEAR_UNIFORM]
    sharp = [head for head in layer.heads if head.entropy <= SHARP and head not in near]
    between = [head for head in layer.heads if head not in near and head not in sharp]
    found = []
    for heads, says, means in (
        (near, "attend{} almost uniformly", "GAT does there what a mean would do"),
        (sharp, "attend{} sharply", "few neighbours decide"),
        (between, "weigh{} the neighbours", "more than a mean, less than a choice"),
    ):
        if heads:
            who, ending = _who(heads, layer)
            entropy = _range([head.entropy for head in heads], "{:.3f}".format)
            moved = _range([head.moved for head in heads], "{:.1%}".format)
            found.append(
                f"{who} {says.format(ending)}: {means} (entropy {entropy} of the possible, "
                f"{moved} of the weight lies elsewhere than a mean puts it)"
            )
    return found


def _along(
    layer: Layer,
    what: str,
    of: Callable[[Head], Correlation | None],
    words: Callable[[Sequence[Head], bool], str],
) -> list[str]:
    """One sentence for the heads that favour, one for those that avoid, else that none clearly does."""
    known = [(head, found) for head in layer.heads if (found := of(head)) is not None]
    known = [(head, found) for head, found in known if not math.isnan(found.low)]
    if not known:
        return []
    sentences = []
    for positive in (True, False):
        chosen = [
            (head, found) for head, found in known if _is_clear(found) and (found.value > 0) is positive
        ]
        if chosen:
            heads = [head for head, _ in chosen]
            who, ending = _who(heads, layer)
            values = _range([found.value for _, found in chosen], "{:+.2f}".format)
            sentences.append(
                f"{who} give{ending} {words(heads, positive)} (rank correlation with {what} {values})"
            )
    if not sentences:
        values = _range([found.value for _, found in known], "{:+.2f}".format)
        away, count = sum(found.found for _, found in known), len(known)
        which = f"{away} of {count} intervals leave{'s' * (away == 1)}" if away else "no interval leaves"
        sentences.append(
            f"layer {layer.layer}: no clear correlation of the weight with {what} (rank correlation {values}; "
            f"{which} out 0)"
        )
    return sentences


def _is_clear(found: Correlation) -> bool:
    return found.found and abs(found.value) >= CLEAR


def _agreement(heads: Sequence[Head], positive: bool) -> str:
    lifts = [
        _range([getattr(head, name) for head in heads], "{:.2f}".format)
        for name in ("agreeing", "disagreeing")
    ]
    more = "more" if positive else "less"
    return f"{more} to neighbours of the node's own class: {lifts[0]} times the uniform weight, others get {lifts[1]}"


def _degree(heads: Sequence[Head], positive: bool) -> str:
    return f"{'more' if positive else 'less'} to neighbours of high degree"


def _itself(layer: Layer) -> str:
    weights = _range([head.itself for head in layer.heads], "{:.3f}".format)
    uniform = layer.heads[0].uniform
    return (
        f"layer {layer.layer}: a node's own message gets {weights}, where a mean would give it {uniform:.3f}"
    )


def _replaced(where: str, change: Replaced, accuracy: float | None, part: str | None) -> str:
    said = (
        f"with a mean in place of attention{f' {where}' * bool(where)}, "
        f"{change.unchanged:.1%} of the predictions stay"
    )
    if accuracy is None or change.accuracy is None:
        return said
    return f"{said}; {part} accuracy is {change.accuracy:.1%} instead of {accuracy:.1%}"
