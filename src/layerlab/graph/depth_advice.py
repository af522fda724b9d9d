"""What components, decay, homophily and the depth scores say, in sentences that a person can act on."""

from __future__ import annotations

import math

from layerlab.graph.components import Components
from layerlab.graph.depth import Decay
from layerlab.graph.depth_prediction import DepthPrediction
from layerlab.graph.depth_training import DepthCurve
from layerlab.graph.homophily import Homophily


def advice(
    components: Components,
    *,
    features: Decay | None = None,
    labels: Decay | None = None,
    homophily: Homophily | None = None,
    prediction: DepthPrediction | None = None,
    curve: DepthCurve | None = None,
) -> tuple[str, ...]:
    """One sentence a finding; what is not given is not spoken of.

    Args:
        components: of the graph.
        features: how propagation smooths the features.
        labels: how it would smooth the labels themselves (`layerlab.graph.depth.label_signal`).
        homophily: of the labels.
        prediction: the depth scores before training.
        curve: SGC's accuracy by depth, trained.

    >>> from layerlab.graph.components import components
    >>> from layerlab.graph.structure import Graph
    >>> for line in advice(components(Graph.from_edges([0], [1]))):
    ...     print(line)
    bipartite: propagation without self-loops oscillates for ever; use self-loops, or an even K
    """
    found = [*_components(components)]
    if features is not None:
        found += _decay(features)
    if features is not None and labels is not None:
        found += _signal(features, labels)
    if homophily is not None:
        found.append(homophily.words())
    if prediction is not None:
        found += _predicted(prediction)
    if prediction is not None and curve is not None:
        found.append(_compared(prediction, curve))
    return tuple(found)


def _components(parts: Components) -> list[str]:
    found = []
    alone = parts.isolated.size
    if parts.count - alone > 1:
        found.append(
            f"{parts.count - alone:,} components with edges: nothing passes from one to another, however deep the model"
        )
    if alone:
        found.append(
            f"{alone:,} isolated node{'s' * (alone != 1)}: no model can use the graph for them, only their own features"
        )
    with_edges = int((parts.edges > 0).sum())
    bipartite = int(parts.bipartite_with_edge.sum())
    if bipartite:
        which = (
            "" if bipartite == with_edges else f" in {bipartite:,} of {with_edges:,} components with edges"
        )
        found.append(
            f"bipartite{which}: propagation without self-loops oscillates for ever; use self-loops, or an even K"
        )
    return found


def _layers(count: float) -> str:
    return f"{count:.1f} layer{'s' * (round(count, 1) != 1)}"


def _decay(decay: Decay) -> list[str]:
    if decay.oscillates:
        return [
            "the features' energy never dies out: their part at eigenvalue -1 changes sign layer by layer"
        ]
    if not decay.weights.any():
        return ["the features are at their limit from the start: propagation changes nothing but the scale"]
    gone = decay.layers_until(0.01)
    flat = decay.layers_until(0.01, "distance")
    found = [
        f"the features' energy (what differs between neighbours) halves every {_layers(decay.half_life)}; "
        f"a hundredth is left after {_layers(gone)}"
    ]
    if math.isinf(flat):
        found.append(
            "what tells the nodes of a component apart is never lost, at no depth that can be trained"
        )
    else:
        found.append(
            f"beyond K = {math.ceil(flat):,} less than 1% is left of what tells the nodes of a component apart: "
            "nothing to learn from"
        )
    return found


def _signal(features: Decay, labels: Decay) -> list[str]:
    """Whether the labels lie where propagation keeps more than it keeps of the features."""
    kept, all_kept = labels.distance_share(2) ** 2, features.distance_share(2) ** 2
    if labels.weights.sum() == 0 or features.weights.sum() == 0:
        return []
    return [
        f"two layers keep {kept:.0%} of the labels' energy and {all_kept:.0%} of the features': "
        + (
            "smoothing removes more noise than signal"
            if kept > all_kept
            else "smoothing removes the signal first"
        )
    ]


def _predicted(prediction: DepthPrediction) -> list[str]:
    low, high = min(prediction.plausible), max(prediction.plausible)
    span = f"; {low} to {high} may do as well" if low < high else ""
    fewest, most = prediction.layers
    layers = f"{fewest} to {most} layers" if fewest < most else f"{most} layer{'s' * (most != 1)}"
    return [
        f"predicted best depth of an SGC: K = {prediction.best}{span}",
        f"for a GCN or GAT without residual connections try {layers}",
    ]


def _compared(prediction: DepthPrediction, curve: DepthCurve) -> str:
    distance = curve.distance(prediction.best)
    near = curve.near_best()
    at = int(curve.mean.argmax())
    said = "within 1 of them" if distance <= 1 else f"{distance} off"
    return (
        f"trained, K = {curve.best} is best ({curve.mean[at]:.1%} of the validation nodes right), and as good within "
        f"one standard error are K = {_runs(near)}: the prediction K = {prediction.best} is {said}"
    )


def _runs(numbers: tuple[int, ...]) -> str:
    """``(2, 3, 4, 7)`` as "2-4, 7"."""
    pieces: list[list[int]] = []
    for number in numbers:
        if pieces and number == pieces[-1][-1] + 1:
            pieces[-1].append(number)
        else:
            pieces.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in pieces)
