"""One step of a recurrence and its Jacobian in closed form, for many steps and samples at once.

All kinds fit one form, with g gates of H units, slopes S and the recurrent weight W (gH, P):

- tanh, relu:  h' = φ(a),  a = W_x x + b_x + W h + b.   ∂h'/∂h = D[φ'(a)] W.
- gru:         r, z = sigmoid(·), n = tanh(W_xn x + b_xn + r ∘ m), m = W_n h + b_n, h' = (1 − z) ∘ n + z ∘ h.
               ∂h'/∂h = D[z] + D[(1−z)(1−n²) m r(1−r)] W_r + D[(h−n) z(1−z)] W_z + D[(1−z)(1−n²) r] W_n.
- lstm:        i, f, o = sigmoid(·), g = tanh(·), c' = f ∘ c + i ∘ g, q = o ∘ tanh c', h' = W_p q
               (W_p = 1 without proj_size).
               dc' = f ∘ dc + (D[g i(1−i)] W_i + D[c f(1−f)] W_f + D[i (1−g²)] W_g) dh,
               dq = D[tanh(c') o(1−o)] W_o dh + o (1 − tanh² c') ∘ dc',   dh' = W_p dq.

So the carry (z, f), the slopes before the gates' rows of W and, for an LSTM, the read-out κ = o (1 − tanh² c') are all
that changes from step to step, and a product with the Jacobian is one with W.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from layerlab.errors import UserError

Kind: TypeAlias = Literal["tanh", "relu", "gru", "lstm"]

GATES: dict[Kind, tuple[str, ...]] = {
    "tanh": ("h",),
    "relu": ("h",),
    "gru": ("r", "z", "n"),
    "lstm": ("i", "f", "g", "o"),
}
"""The gates, in the order of torch's rows of the weights."""


@dataclass(frozen=True, eq=False)
class Weights:
    """The weights of one layer and direction, in float64 on the CPU.

    Attributes:
        kind: of the step.
        input: (gH, I).
        recurrent: W, (gH, P); P = H but for an LSTM with ``proj_size``.
        input_bias: (gH).
        recurrent_bias: (gH).
        projection: W_p, (P, H); None without.
    """

    kind: Kind
    input: Tensor
    recurrent: Tensor
    input_bias: Tensor
    recurrent_bias: Tensor
    projection: Tensor | None = None

    @property
    def hidden(self) -> int:
        """H."""
        return self.recurrent.shape[0] // len(GATES[self.kind])

    @property
    def output(self) -> int:
        """P, the width of h."""
        return self.recurrent.shape[1]

    @property
    def state(self) -> int:
        """S: P, and P + H for an LSTM, whose state is (h, c)."""
        return self.output + (self.hidden if self.kind == "lstm" else 0)

    def gates(self) -> tuple[Tensor, ...]:
        """The rows of W that belong to each gate, (H, P)."""
        return self.recurrent.split(self.hidden)


@dataclass(frozen=True, eq=False)
class StepJacobians:
    """N Jacobians J = ∂s'/∂s of single steps; a `layerlab.gradflow.linear_maps.LinearMap` of N samples.

    Attributes:
        weights: of the layer.
        slopes: (N, gH), the factors before the rows of W.
        carry: (N, H), z or f; None for tanh and relu.
        read: (N, H), κ; None but for an LSTM.
    """

    weights: Weights
    slopes: Tensor
    carry: Tensor | None = None
    read: Tensor | None = None

    @property
    def samples(self) -> int:
        return self.slopes.shape[0]

    @property
    def rows(self) -> int:
        return self.weights.state

    @property
    def columns(self) -> int:
        return self.weights.state

    @property
    def dtype(self) -> torch.dtype:
        return torch.float64

    def product(self, vectors: Tensor) -> Tensor:
        """(N, S) to (N, S)."""
        return self.times(vectors[:, None])[:, 0]

    def transposed_product(self, vectors: Tensor) -> Tensor:
        """(N, S) to (N, S)."""
        return self.transposed_times(vectors[:, None])[:, 0]

    def times(self, rows: Tensor) -> Tensor:
        """J v for each of k vectors, as rows: (N, k, S) to (N, k, S)."""
        weights = self.weights
        if weights.kind != "lstm":
            found = self._gated(rows, 0)
            for gate in range(1, len(GATES[weights.kind])):
                found += self._gated(rows, gate)
            return found if self.carry is None else found.addcmul_(rows, self.carry[:, None])
        h, c = rows[:, :, : weights.output].contiguous(), rows[:, :, weights.output :]
        assert self.carry is not None and self.read is not None
        cell = c * self.carry[:, None]
        for gate in range(3):
            cell += self._gated(h, gate)
        out = self._gated(h, 3).addcmul_(cell, self.read[:, None])
        return torch.cat([out if weights.projection is None else out @ weights.projection.t(), cell], dim=2)

    def transposed_times(self, rows: Tensor) -> Tensor:
        """Jᵀu for each of k vectors, as rows: (N, k, S) to (N, k, S)."""
        weights, count = self.weights, len(GATES[self.weights.kind])
        if weights.kind != "lstm":
            found = (rows.repeat(1, 1, count) * self.slopes[:, None]) @ weights.recurrent
            return found if self.carry is None else found.addcmul_(rows, self.carry[:, None])
        h, c = rows.split([weights.output, weights.hidden], dim=2)
        assert self.carry is not None and self.read is not None
        out = h if weights.projection is None else h @ weights.projection
        cell = c + out * self.read[:, None]
        back = (torch.cat([cell, cell, cell, out], dim=2) * self.slopes[:, None]) @ weights.recurrent
        return torch.cat([back, cell * self.carry[:, None]], dim=2)

    def part(self, first: int, last: int, scale: Tensor | None = None) -> StepJacobians:
        """The Jacobians of a range of samples, each multiplied by ``scale`` (N), if one is given."""

        def cut(values: Tensor) -> Tensor:
            return values[first:last] if scale is None else values[first:last] * scale[:, None]

        return StepJacobians(
            self.weights,
            cut(self.slopes),
            None if self.carry is None else cut(self.carry),
            # κ stands before dc', which the other two have scaled.
            None if self.read is None else self.read[first:last],
        )

    def gate(self, gate: int) -> Tensor:
        """The slopes of one gate, (N, H)."""
        size = self.weights.hidden
        return self.slopes[:, gate * size : (gate + 1) * size]

    def _gated(self, rows: Tensor, gate: int) -> Tensor:
        # Gate by gate: the memory of all gates at once would be the largest of the whole computation.
        return (rows @ self.weights.gates()[gate].t()).mul_(self.gate(gate)[:, None])


@dataclass(frozen=True, eq=False)
class Unrolled:
    """A recurrence run over T steps for B samples.

    Attributes:
        outputs: h_1, …, h_T, (T, B, P).
        jacobians: ∂s_t/∂s_(t−1) for t = 1, …, T, T·B of them with the samples of a step side by side.
        end: s_T: (h,) or (h, c).
    """

    outputs: Tensor
    jacobians: StepJacobians
    end: tuple[Tensor, ...]


def unroll(weights: Weights, inputs: Tensor, start: Sequence[Tensor]) -> Unrolled:
    """Runs the recurrence and keeps what the Jacobians of its steps need.

    Args:
        weights: of the layer and direction.
        inputs: (T, B, I) float64, in the order in which they are processed.
        start: s_0: (h,) or (h, c), (B, P) and (B, H) float64.

    Raises:
        UserError: a state that overflows.

    >>> one = torch.ones(1, 1, dtype=torch.float64)
    >>> weights = Weights("tanh", 0 * one, 0.5 * one, 0 * one[0], 0 * one[0])
    >>> unroll(weights, torch.zeros(3, 1, 1, dtype=torch.float64), [0 * one]).jacobians.product(one.expand(3, 1))
    tensor([[0.5000],
            [0.5000],
            [0.5000]], dtype=torch.float64)
    """
    driven = inputs @ weights.input.t() + weights.input_bias
    state = tuple(start)
    outputs, slopes, carries, reads = [], [], [], []
    for number, drive in enumerate(driven, 1):
        state, slope, carry, read = _STEPS[weights.kind](weights, drive, state)
        if not all(bool(torch.isfinite(part).all()) for part in state):
            raise UserError(
                f"the state of the recurrence is NaN or Inf from step {number} on; pass at most {number - 1} steps, or "
                "smaller recurrent weights"
            )
        outputs.append(state[0])
        slopes.append(slope)
        carries.append(carry)
        reads.append(read)
    jacobians = StepJacobians(weights, torch.cat(slopes), _all(carries), _all(reads))
    return Unrolled(torch.stack(outputs), jacobians, state)


def joined(parts: Sequence[StepJacobians]) -> StepJacobians:
    """One after the other."""
    return StepJacobians(
        parts[0].weights,
        torch.cat([part.slopes for part in parts]),
        _all([part.carry for part in parts]),
        _all([part.read for part in parts]),
    )


def _all(parts: Sequence[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present else None


_Step: TypeAlias = tuple[tuple[Tensor, ...], Tensor, Tensor | None, Tensor | None]


def _plain(weights: Weights, drive: Tensor, state: tuple[Tensor, ...]) -> _Step:
    before = drive + state[0] @ weights.recurrent.t() + weights.recurrent_bias
    if weights.kind == "tanh":
        h = torch.tanh(before)
        return (h,), 1 - h.square(), None, None
    # Torch's derivative at 0 is 0.
    return (torch.relu(before),), (before > 0).to(before.dtype), None, None


def _gru(weights: Weights, drive: Tensor, state: tuple[Tensor, ...]) -> _Step:
    (h,) = state
    recurrent = h @ weights.recurrent.t() + weights.recurrent_bias
    drive_r, drive_z, drive_n = drive.chunk(3, dim=1)
    back_r, back_z, m = recurrent.chunk(3, dim=1)
    r, z = torch.sigmoid(drive_r + back_r), torch.sigmoid(drive_z + back_z)
    n = torch.tanh(drive_n + r * m)
    open_n = (1 - z) * (1 - n.square())
    slopes = torch.cat([open_n * m * r * (1 - r), (h - n) * z * (1 - z), open_n * r], dim=1)
    return ((1 - z) * n + z * h,), slopes, z, None


def _lstm(weights: Weights, drive: Tensor, state: tuple[Tensor, ...]) -> _Step:
    h, c = state
    before = drive + h @ weights.recurrent.t() + weights.recurrent_bias
    a_i, a_f, a_g, a_o = before.chunk(4, dim=1)
    i, f, g, o = torch.sigmoid(a_i), torch.sigmoid(a_f), torch.tanh(a_g), torch.sigmoid(a_o)
    new = f * c + i * g
    shown = torch.tanh(new)
    slopes = torch.cat([g * i * (1 - i), c * f * (1 - f), i * (1 - g.square()), shown * o * (1 - o)], dim=1)
    out = o * shown
    out = out if weights.projection is None else out @ weights.projection.t()
    return (out, new), slopes, f, o * (1 - shown.square())


_STEPS = {"tanh": _plain, "relu": _plain, "gru": _gru, "lstm": _lstm}
