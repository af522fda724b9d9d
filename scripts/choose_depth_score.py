"""How the score of `predict_depth` was chosen: many generated graphs, a few scores, hits and accuracy lost of each.

None of the graphs is among those of benchmarks/depth.py. SGC is trained at K = 1 ... 32 on five splits of every graph;
every score sees the training labels of the first split (the first three where labels are few) and names its best K.
A hit is what it is there. Validation and test labels decide what is best, and no score reads them.

Usage: python scripts/choose_depth_score.py [--every N]        (about a quarter of an hour on one core)
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlab.graph.citation import citation_model
from layerlab.graph.depth_prediction import HALVINGS, PENALTY, _halves, _ridge_answers
from layerlab.graph.depth_training import splits_for, train_depths
from layerlab.graph.generate import bipartite_model, block_model, cycle_model
from layerlab.graph.node_data import NodeDataset, Split
from layerlab.graph.ops import spmm
from layerlab.graph.splits import few_label_split, random_split
from layerlab.graph.task import normalise_rows

Floats = NDArray[np.float64]
DEPTHS = np.arange(1, 33)
SMOOTHINGS = (0.0, 0.15, 0.2, 0.3)


@dataclass
class Score:
    """Hits and accuracy lost of one way to choose, weighted so that every graph counts once."""

    hits: list[float] = field(default_factory=list)
    lost: list[float] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)


def graphs() -> Iterator[tuple[str, Callable[..., NodeDataset], dict[str, Any]]]:
    """Training labels ("20" or "5" a class, "60" per cent), maker and arguments of every development graph."""
    draw = np.random.default_rng(20240)
    for number in range(30):
        labels = ("20", "20", "5", "60")[number % 4] if number < 24 else "20"
        options = {
            "nodes": int(draw.integers(700, 1100) if labels == "60" else draw.integers(800, 3500)),
            "classes": int(draw.integers(3, 8)),
            "communities": int(draw.integers(1, 11)),
            "degree": float(draw.uniform(2.5, 8)),
            "homophily": float(draw.uniform(0.3, 0.9)),
            "features": int(draw.integers(150, 450)),
            "words": float(draw.choice([8, 18, 35])),
            "signal": float(draw.choice([0.1, 0.2, 0.3, 0.4, 0.5])),
            "apart": float(draw.uniform(0, 0.3)),
            "noise": float(draw.uniform(0, 0.15)),
            "seed": 3000 + number,
        }
        # A graph that says nothing, words that say nothing, heterophily, next to nothing of either.
        chance = 1 / options["classes"]
        last = (
            {"homophily": chance},
            {"signal": 0.0},
            {"homophily": 0.15},
            {"homophily": chance, "signal": 0.1},
        )
        yield labels, citation_model, options | (last[number - 26] if number >= 26 else {})
    models = {"block": block_model, "bipartite": bipartite_model, "cycle": cycle_model}
    kinds = "block block bipartite cycle block block bipartite cycle block block bipartite block cycle block"
    for number, kind in enumerate(kinds.split()):
        options = {
            "nodes": int(draw.integers(600, 3000)),
            "classes": int(draw.integers(2, 6)),
            "signal": float(draw.uniform(0.4, 2.5)),
            "seed": 4000 + number,
        }
        if kind != "cycle":
            options |= {"degree": float(draw.uniform(3, 12)), "homophily": float(draw.uniform(0.3, 0.9))}
        if number in (11, 13):
            options["homophily"] = 1 / options["classes"]
        if number == 9:
            options["homophily"] = 0.02
        yield ("20", "5", "20")[number % 3], models[kind], options
    # The citation-like graphs above are best at K = 2, nearly all of them. These are best deeper.
    draw = np.random.default_rng(20241)
    for number in range(16):
        options = {
            "nodes": int(draw.integers(800, 3000)),
            "classes": int(draw.integers(3, 8)),
            "communities": int(draw.integers(1, 5)),
            "degree": float(draw.uniform(2.5, 5)),
            "homophily": float(draw.uniform(0.78, 0.96)),
            "features": int(draw.integers(150, 400)),
            "words": float(draw.choice([8, 15, 25])),
            "signal": float(draw.choice([0.1, 0.15, 0.2, 0.3, 0.4])),
            "apart": float(draw.uniform(0, 0.25)),
            "noise": float(draw.uniform(0, 0.1)),
            "seed": 5000 + number,
        }
        yield ("20", "20", "5", "20")[number % 4], citation_model, options


def calibrated(scores: Floats, labels: NDArray[np.int64]) -> tuple[float, float, float]:
    """Log-likelihood of the labels and mean probability given to them, at the temperature best for the first; that."""
    best = (-np.inf, 0.0, 0.0)
    for factor in np.geomspace(0.05, 60, 60) / max(scores.std(), 1e-12):
        logits = scores * factor
        logits = logits - logits.max(axis=1, keepdims=True)
        log_share = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        given = log_share[np.arange(labels.size), labels]
        best = max(best, (float(given.mean()), float(np.exp(given).mean()), float(factor)))
    return best


def leave_one_out(known: Floats, others: Floats, targets: Floats) -> tuple[Floats, Floats]:
    """Ridge regression's scores for each row of ``known`` without that row, and for ``others`` with all."""
    middle = known.mean(axis=0)
    rows = known - middle
    values, vectors = np.linalg.eigh(rows @ rows.T)
    values, penalty = np.clip(values, 0, None), PENALTY * len(known)
    hat = (vectors * (values / (values + penalty))) @ vectors.T + 1 / len(known)
    own = np.diag(hat)[:, None]
    solved = (vectors / (values + penalty)) @ vectors.T @ (targets - targets.mean(axis=0))
    return (hat @ targets - own * targets) / (1 - own), (others - middle) @ (rows.T @ solved) + targets.mean(
        axis=0
    )


def folds(labels: NDArray[np.int64], count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """(n,) fold of each node, every class shared as evenly as it can be."""
    order = generator.permutation(labels.size)
    order = order[np.argsort(labels[order], kind="stable")]
    found = np.empty(labels.size, dtype=np.int64)
    found[order] = np.arange(labels.size) % count
    return found


def curves(dataset: NodeDataset, split: Split, propagated: list[Floats], seed: int) -> dict[str, Floats]:
    """Every candidate's score at every depth, from the training labels of one split."""
    draw = np.random.default_rng(seed)
    train = draw.permutation(split.train)
    labels, targets = dataset.labels[train], np.eye(dataset.num_classes)[dataset.labels[train]]
    others = draw.permutation(np.setdiff1d(np.arange(dataset.num_nodes), split.train))[:500]
    halves = _halves(labels, HALVINGS, draw)
    names = (
        "halves: accuracy",
        "LOO: accuracy",
        "LOO: log-likelihood",
        "LOO: probability",
        "LOO: confidence elsewhere",
    )
    found = {name: np.empty(DEPTHS.size) for name in names}
    for column, x in enumerate(propagated):
        known = x[train].astype(np.float64)
        right = [
            (_ridge_answers(known, one, other, targets[one], PENALTY) == labels[other]).mean()
            for one, other in (halves, halves[::-1])
        ]
        left_out, elsewhere = leave_one_out(known, x[others].astype(np.float64), targets)
        likelihood, probability, factor = calibrated(left_out, labels)
        shares = np.exp((elsewhere - elsewhere.max(axis=1, keepdims=True)) * factor)
        accuracy = (left_out.argmax(axis=1) == labels).mean()
        confidence = (1 / shares.sum(axis=1)).mean()
        values = (np.mean(right), accuracy, likelihood, probability, confidence)
        for name, value in zip(names, values, strict=True):
            found[name][column] = value
    fold = folds(labels, 5, draw)
    parts = [Split(train[fold != part], train[fold == part], []) for part in range(5)]
    sizes = np.array([part.validation.size for part in parts])
    found["SGC on five folds: accuracy"] = (
        sizes @ train_depths(dataset, DEPTHS.tolist(), splits=parts).validation / sizes.sum()
    )
    return found


def smoothed(score: Floats, width: float) -> Floats:
    place = np.log1p(DEPTHS)
    weights = np.exp(-((place[:, None] - place) ** 2) / (2 * width**2)) if width else np.eye(DEPTHS.size)
    return (weights / weights.sum(axis=1, keepdims=True)) @ score


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every N-th graph only")
    every = parser.parse_args().every
    scores: dict[str, Score] = {}
    for number, (labels, make, options) in enumerate(graphs()):
        if number % every:
            continue
        dataset = make(**options)
        if labels == "5":
            dataset = replace(dataset, split=few_label_split(dataset.labels, options["seed"], per_class=5))
        splits = splits_for(dataset, 5)
        if labels == "60":
            splits = tuple(random_split(dataset.labels, seed) for seed in range(5))
        operator, x, propagated = (
            dataset.graph.normalized_adjacency(),
            normalise_rows(dataset.features).to_dense(),
            [],
        )
        for _ in DEPTHS:
            x = spmm(operator, x)
            propagated.append(x.numpy())
        curve = train_depths(dataset, DEPTHS.tolist(), splits=splits)
        chosen = splits[:1] if labels == "60" else splits[:3]
        for seed, split in enumerate(chosen):
            candidates = curves(dataset, split, propagated, seed)
            picks = {
                f"{name}, smoothed {width}": int(DEPTHS[smoothed(score, width).argmax()])
                for name, score in candidates.items()
                for width in SMOOTHINGS
            }
            for name, depth in {**picks, "always 2": 2, "always 3": 3}.items():
                entry = scores.setdefault(name, Score())
                entry.hits.append(curve.distance(depth) <= 1)
                entry.lost.append(float(curve.mean.max() - curve.mean[depth - 1]))
                entry.weights.append(1 / len(chosen))
        print(number, make.__name__, labels, "best", curve.best, flush=True)
    for name, entry in sorted(
        scores.items(), key=lambda item: -np.average(item[1].hits, weights=item[1].weights)
    ):
        hits, lost = (np.average(values, weights=entry.weights) for values in (entry.hits, entry.lost))
        print(f"{name:45} hits {hits:.2f}, lost {lost:.4f}")


if __name__ == "__main__":
    main()
