"""The course document's construction of almost orthogonal vectors (SOL 2.1.1), run as its proof goes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.projection.bounds import document_count

# The proof needs some map that keeps all distances; a random one does with a probability that tends to 0 no faster
# than a constant, so this many failures mean that something is wrong.
_MOST_DRAWS = 200
_BLOCK = 2048


@dataclass(frozen=True)
class DocumentCodebook:
    """What the document's construction gave.

    Args:
        vectors: ``(count, dim)`` float64, the columns M e_i over their norms: unit vectors.
        as_written: ``(count, dim)`` float64, over their *squared* norms, as the document writes: not unit vectors.
        epsilon: δ / 3, the distortion that the map was held to.
        promised: floor(exp(n δ²/72)) - 1, the count of the theorem.
        distortion: the largest error of a squared distance between two of 0, e_1 ... e_count, relative.
        draws: maps that were drawn until one kept every distance.
    """

    vectors: Tensor
    as_written: Tensor
    epsilon: float
    promised: int
    distortion: float
    draws: int


def document_codebook(
    dim: int,
    coherence: float,
    count: int | None = None,
    *,
    seed: int = 0,
    progress: Callable[[float, str], None] | None = None,
) -> DocumentCodebook:
    """The construction of SOL 2.1.1: unit vectors through a Johnson-Lindenstrauss map of the unit vectors.

    With ε = δ/3 and d = floor(exp(n δ²/72)) - 1, the lemma holds for the d + 1 points 0, e_1 ... e_d, since
    8 ln(d + 1)/ε² <= n: some n x d matrix M keeps their squared distances within 1 ± ε. Here M has independent
    normal entries of variance 1/n, and is drawn again until it does. Then abs(<M e_i, M e_j>) <= 2ε, and dividing by
    the norms, each at least √(1 - ε), gives abs(cos) <= 2ε/(1 - ε) < δ.

    The document divides by the squared norms, which does not give unit vectors; that is mended here, and what it
    wrote is kept beside.

    Args:
        dim: n.
        coherence: δ, between 0 and 1.
        count: vectors, at most d; None takes d.
        seed: of the maps.
        progress: called with the share done and words.

    Returns:
        The vectors and how they came about. Their coherence is below δ by the proof; it is for `certify` to measure.

    Raises:
        UserError: δ is out of range, or the theorem promises fewer vectors than wanted, or fewer than 2.

    >>> found = document_codebook(1000, 0.5)
    >>> len(found.vectors), found.promised, found.distortion <= found.epsilon
    (31, 31, True)
    """
    if count is not None and count < 2:
        raise UserError(f"a codebook holds at least 2 vectors, got count {count}; raise it")
    promised = document_count(dim, coherence)
    wanted = promised if count is None else count
    if promised < 2 or wanted > promised:
        least = math.ceil(72 * math.log(max(3, wanted + 1)) / coherence**2)
        raise UserError(
            f"the document's theorem promises {promised:,} vectors of coherence {coherence:g} in dimension {dim:,}, "
            f"and {'at least 2' if count is None else f'{count:,}'} are wanted; it takes a dimension of {least:,}, or "
            "leave out construction='document'"
        )
    epsilon = coherence / 3
    generator = torch.Generator().manual_seed(seed)
    for draw in range(1, _MOST_DRAWS + 1):
        # The rows are the columns of M, so that M e_i is row i.
        images = torch.randn(wanted, dim, generator=generator, dtype=torch.float64) / math.sqrt(dim)
        distortion = _distortion(images)
        if progress is not None:
            progress(draw / _MOST_DRAWS, f"map {draw}, distortion {distortion:.4f} of {epsilon:.4f}")
        if distortion <= epsilon:
            squared = images.square().sum(dim=1, keepdim=True)
            return DocumentCodebook(
                images / squared.sqrt(), images / squared, epsilon, promised, distortion, draw
            )
    raise UserError(
        f"none of {_MOST_DRAWS} maps kept the distances of {wanted:,} points within {epsilon:g}, though some map does; "
        "take another seed, or a larger dimension"
    )


def _distortion(images: Tensor) -> float:
    """The largest relative error of a squared distance between two of 0 and the e_i (which are 1 and 2)."""
    squares = images.square().sum(dim=1)
    worst = float((squares - 1).abs().max())
    for start in range(0, len(images), _BLOCK):
        stop = min(start + _BLOCK, len(images))
        distances = squares[start:stop, None] + squares - 2 * (images[start:stop] @ images.T)
        distances.diagonal(start).fill_(2.0)
        worst = max(worst, float((distances / 2 - 1).abs().max()))
    return worst
