"""Feature maps of linear attention: phi with phi(q) . phi(k) in the place of exp(q . k).

Where phi is non-negative, so are all weights, and no denominator cancels. Outputs do not change when phi(q_i) is
multiplied by a positive number; `FeatureMap.queries` may use that to stay within the range of its numbers.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from layerlab.errors import UserError


def negligible(dtype: torch.dtype) -> float:
    """Below this, a denominator counts as 0, and its row of the output is 0, with gradient 0.

    Far enough from the smallest numbers of the dtype for what is divided by it to stay finite.

    >>> negligible(torch.float32)
    7.888609052210118e-31
    """
    return 2.0**-900 if dtype is torch.float64 else 2.0**-100


class FeatureMap(nn.Module):
    """A map of vectors ``(..., d)`` to features ``(..., r)``; derive from it to bring your own.

    `queries` and `keys` are what attention applies; both are `forward` unless a map treats them differently.

    >>> class Square(FeatureMap):
    ...     name, non_negative = "square", True
    ...
    ...     def forward(self, x):
    ...         return x * x
    >>> Square().keys(torch.tensor([1.0, -2.0]))
    tensor([1., 4.])
    """

    name: ClassVar[str]
    # Whether no feature is ever below 0.
    non_negative: ClassVar[bool]

    def forward(self, x: Tensor) -> Tensor:
        """``phi(x)``, ``(..., r)``, of x ``(..., d)``."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def queries(self, x: Tensor) -> Tensor:
        """``phi(x)``, each row times a positive number of its own, which cancels in the output."""
        return self(x)

    def keys(self, x: Tensor) -> Tensor:
        """``phi(x)``, all rows times one positive number, which cancels in the output."""
        return self(x)


class EluPlusOne(FeatureMap):
    """``phi(x) = elu(x) + 1``: x + 1 above 0, exp(x) below.

    A query without a positive entry is shifted to a largest entry of 0, so that its row never underflows.

    Reference: Katharopoulos, Vyas, Pappas and Fleuret, Transformers are RNNs, ICML 2020.

    >>> EluPlusOne()(torch.tensor([1.0, 0.0]))
    tensor([2., 1.])
    """

    name = "elu"
    non_negative = True

    def forward(self, x: Tensor) -> Tensor:
        # elu(x) + 1 would lose the digits of exp(x) where it is small; the bound keeps the unused branch finite.
        return torch.where(x > 0, x + 1, x.clamp(max=0).exp())

    def queries(self, x: Tensor) -> Tensor:
        """``phi(x - c)``, c being the row's largest entry if that is below 0, else 0."""
        return self(x - x.detach().amax(-1, keepdim=True).clamp(max=0))


class ReLU(FeatureMap):
    """``phi(x) = max(x, 0)``; a query that shares no feature with any key gives 0.

    >>> ReLU()(torch.tensor([1.0, -1.0]))
    tensor([1., 0.])
    """

    name = "relu"
    non_negative = True

    def forward(self, x: Tensor) -> Tensor:
        return x.relu()


class Identity(FeatureMap):
    """``phi(x) = x``: weights of either sign, denominators that may cancel.

    `layerlab.attention.linear_attention` takes it only with ``signed=True``.

    >>> Identity()(torch.tensor([1.0, -1.0]))
    tensor([ 1., -1.])
    """

    name = "identity"
    non_negative = False

    def forward(self, x: Tensor) -> Tensor:
        return x


class PositiveRandomFeatures(FeatureMap):
    """FAVOR+: phi(q) . phi(k) is an unbiased estimate of exp(scale q . k), of positive terms only.

    ``phi(x)_i = exp(w_i . y - |y|^2 / 2) / sqrt(r)`` with ``y = sqrt(scale) x`` and w_i standard normal. Orthogonal
    w_i (in blocks of d, with the lengths of normal vectors) vary less. The estimate is good for short vectors: its
    relative variance grows as ``exp(scale |q + k|^2) / r``.

    Reference: Choromanski et al., Rethinking Attention with Performers, ICLR 2021.

    Args:
        head_size: d.
        features: r; 2 d if None.
        seed: of the w_i, a buffer ``(r, d)``.
        orthogonal: whether w_i are orthogonal within blocks.
        scale: 1 / sqrt(d) if None, as softmax attention has it.

    >>> phi = PositiveRandomFeatures(2, features=20_000, seed=0)
    >>> x = torch.tensor([0.5, 0.5])
    >>> round(float(phi(x) @ phi(x)), 1), round(math.exp(0.5 / math.sqrt(2)), 1)
    (1.4, 1.4)
    """

    name = "random"
    non_negative = True
    directions: Tensor

    def __init__(
        self,
        head_size: int,
        features: int | None = None,
        seed: int = 0,
        orthogonal: bool = True,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        count = 2 * head_size if features is None else features
        if head_size < 1 or count < 1:
            raise UserError(f"expected a head size and features of at least 1, got {head_size} and {count}")
        scale = 1 / math.sqrt(head_size) if scale is None else scale
        if not 0 < scale < math.inf:
            raise UserError(f"expected a positive scale, got {scale}")
        self.root = math.sqrt(scale)
        generator = torch.Generator().manual_seed(seed)
        directions = torch.randn(count, head_size, generator=generator, dtype=torch.float64)
        if orthogonal:
            lengths = directions.norm(dim=1, keepdim=True)
            blocks = -(-count // head_size)
            squares = torch.randn(blocks, head_size, head_size, generator=generator, dtype=torch.float64)
            bases, triangles = torch.linalg.qr(squares)
            # Uniformly distributed only with this choice of signs (Mezzadri 2007).
            bases = bases * triangles.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
            directions = bases.mT.reshape(-1, head_size)[:count] * lengths
        self.register_buffer("directions", directions.to(torch.get_default_dtype()))
        # A quarter of the largest |w|^2: exponents are at most half of it, so both ends keep away from the limits.
        self.middle = float(directions.square().sum(1).max()) / 4

    def _exponents(self, x: Tensor) -> Tensor:
        y = x * self.root
        return y @ self.directions.to(x.dtype).T - y.square().sum(-1, keepdim=True) / 2

    def forward(self, x: Tensor) -> Tensor:
        return self._exponents(x).exp() / math.sqrt(len(self.directions))

    def queries(self, x: Tensor) -> Tensor:
        """As `forward`, with a largest feature of 1 in each row."""
        exponents = self._exponents(x)
        return (exponents - exponents.detach().amax(-1, keepdim=True)).exp()

    def keys(self, x: Tensor) -> Tensor:
        """As `forward`, times a constant that no key decides: no key changes another's rounding."""
        return (self._exponents(x) - self.middle).exp()


class Hedgehog(FeatureMap):
    """A learnable map per head: ``phi(x) = softmax([W x, -W x])``, 2 d features, W = identity at first.

    Queries and keys have a W each.

    Reference: Zhang, Bhatia, Kumbong and Re, The Hedgehog and the Porcupine, ICLR 2024.

    Args:
        heads: of the queries.
        head_size: d.
        kv_heads: of the keys; ``heads`` if None.

    >>> phi = Hedgehog(heads=2, head_size=3)
    >>> phi.keys(torch.zeros(1, 2, 5, 3)).shape, sorted(name for name, _ in phi.named_parameters())
    (torch.Size([1, 2, 5, 6]), ['key_weight', 'query_weight'])
    """

    name = "hedgehog"
    non_negative = True

    def __init__(self, heads: int, head_size: int, kv_heads: int | None = None) -> None:
        super().__init__()
        if min(heads, head_size, heads if kv_heads is None else kv_heads) < 1:
            raise UserError(
                f"expected heads and a head size of at least 1, got {heads}, {kv_heads} and {head_size}"
            )
        eye = torch.eye(head_size)
        self.query_weight = nn.Parameter(eye.repeat(heads, 1, 1))
        self.key_weight = nn.Parameter(eye.repeat(heads if kv_heads is None else kv_heads, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """The map of the queries."""
        return self.queries(x)

    def queries(self, x: Tensor) -> Tensor:
        """The features of queries ``(batch, heads, n, d)``."""
        return _hedgehog(x, self.query_weight)

    def keys(self, x: Tensor) -> Tensor:
        """The features of keys ``(batch, kv_heads, m, d)``."""
        return _hedgehog(x, self.key_weight)


def _hedgehog(x: Tensor, weight: Tensor) -> Tensor:
    if x.ndim < 3 or (x.shape[-3], x.shape[-1]) != (len(weight), weight.shape[-1]):
        raise UserError(
            f"expected (..., {len(weight)}, n, {weight.shape[-1]}) for a hedgehog map of {len(weight)} heads,"
            f" got {tuple(x.shape)}; make the map with the heads of what it is applied to"
        )
    y = x @ weight.to(x.dtype).transpose(-1, -2)
    return torch.cat([y, -y], -1).softmax(-1)


_SIMPLE: dict[str, type[FeatureMap]] = {kind.name: kind for kind in (EluPlusOne, ReLU, Identity)}
NAMES = (*_SIMPLE, PositiveRandomFeatures.name, Hedgehog.name)


def feature_map(
    given: str | FeatureMap,
    *,
    heads: int | None = None,
    head_size: int | None = None,
    kv_heads: int | None = None,
    features: int | None = None,
    seed: int = 0,
) -> FeatureMap:
    """The feature map of a name, or the module itself.

    Args:
        given: "elu", "relu", "random" (needs head_size), "hedgehog" (needs heads and head_size), "identity", or a map.
        heads: of the queries.
        head_size: d.
        kv_heads: of the keys, for "hedgehog".
        features: r, for "random".
        seed: for "random".

    Raises:
        UserError: another name, or a size that the name needs is missing.

    >>> feature_map("relu").name, feature_map("random", head_size=4).directions.shape
    ('relu', torch.Size([8, 4]))
    """
    if isinstance(given, FeatureMap):
        return given
    if not isinstance(given, str) or given not in NAMES:
        raise UserError(f"expected a FeatureMap or one of {', '.join(NAMES)}, got {given!r}")
    if given in _SIMPLE:
        return _SIMPLE[given]()
    if head_size is None or (given == "hedgehog" and heads is None):
        raise UserError(f"expected the head size (and heads) for the feature map {given!r}; give head_size=")
    if given == "random":
        return PositiveRandomFeatures(head_size, features, seed)
    assert heads is not None
    return Hedgehog(heads, head_size, kv_heads)
