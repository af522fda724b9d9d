"""Observations and actions of gymnasium's spaces, and the heads' distributions against torch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array
from torch.distributions import Categorical, Normal

from layerlab.errors import UserError
from layerlab.estimators.policy.actions import ActionFormat, CategoricalHead, GaussianHead
from layerlab.estimators.policy.networks import Normaliser, Value
from layerlab.estimators.policy.observations import Encoder

OBSERVED = [
    spaces.Box(-1, 1, (2, 3), np.float32),
    spaces.Box(0, 255, (4,), np.uint8),
    spaces.Discrete(5, start=-2),
    spaces.MultiBinary((2, 2)),
    spaces.MultiDiscrete([3, 2]),
    spaces.Dict(
        b=spaces.Discrete(3), a=spaces.Tuple([spaces.Box(-1, 1, (2,)), spaces.MultiDiscrete([2, 4])])
    ),
]


@pytest.mark.parametrize("space", OBSERVED, ids=str)
def test_batches_are_encoded_as_gymnasium_flattens_one(space: Any) -> None:
    space.seed(0)
    encoder = Encoder(space, "toy")
    samples = [space.sample() for _ in range(7)]
    assert encoder.size == spaces.flatdim(space)
    batch = concatenate(space, samples, create_empty_array(space, n=7))
    wanted = np.stack([spaces.flatten(space, sample) for sample in samples])
    np.testing.assert_array_equal(encoder(batch), wanted.astype(np.float32))


def test_unsupported_and_empty_observations_are_refused() -> None:
    with pytest.raises(UserError, match="toy has a Sequence in its observation space"):
        Encoder(spaces.Dict(a=spaces.Sequence(spaces.Discrete(2))), "toy")
    with pytest.raises(UserError, match="observes nothing"):
        Encoder(spaces.Box(-1, 1, (0,)), "toy")


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3, start=2),
        spaces.MultiDiscrete([[2, 3], [4, 2]]),
        spaces.MultiBinary(3),
        spaces.Box(np.array([-1, -np.inf], np.float32), np.array([3, np.inf], np.float32)),
    ],
    ids=str,
)
@pytest.mark.parametrize("sampled", [True, False])
def test_actions_lie_in_their_space(space: Any, sampled: bool) -> None:
    form = ActionFormat(space)
    head = form.head()
    generator = torch.Generator().manual_seed(0)
    outputs = 3 * torch.randn(50, head.outputs, generator=generator)
    noise = head.noise(50, generator)
    actions = (head.sample(outputs, noise) if sampled else head.mode(outputs)).detach()
    written = form.write(actions)
    assert written.shape == (50, *space.shape) and all(action in space for action in _rows(space, written))
    assert len(np.unique(written)) >= 2


def _rows(space: Any, written: Any) -> list[Any]:
    return [row if space.shape else row.item() for row in written]


def test_bounded_boxes_are_scaled_and_clipped() -> None:
    form = ActionFormat(spaces.Box(np.float32(-3), np.float32(1), (1,)))
    written = form.write(torch.tensor([[0.0], [0.5], [1.0], [9.0], [-9.0]]))
    assert written[:, 0].tolist() == [-1, 0, 1, 1, -3]


def test_categorical_head_against_torch() -> None:
    generator = torch.Generator().manual_seed(1)
    head = CategoricalHead([3, 2])
    outputs = torch.randn(6, 5, generator=generator).double().requires_grad_()
    actions = torch.tensor([[0, 1], [2, 0], [1, 1], [0, 0], [2, 1], [1, 0]])
    parts = [Categorical(logits=part) for part in outputs.split([3, 2], dim=1)]
    wanted = sum(part.log_prob(actions[:, i]) for i, part in enumerate(parts))
    found = head.log_prob(outputs, actions)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(head.entropy(outputs), sum(part.entropy() for part in parts))
    (scores,) = torch.autograd.grad(found.sum(), outputs)
    squares = head.score_square(outputs.detach(), actions)
    torch.testing.assert_close(squares.double(), scores.square().sum(dim=1), rtol=1e-6, atol=1e-6)


def test_gaussian_head_against_torch() -> None:
    generator = torch.Generator().manual_seed(2)
    head = GaussianHead(3).double()
    head.log_std.data = torch.tensor([0.3, -1.0, 0.0], dtype=torch.float64)
    outputs, actions = (torch.randn(5, 3, generator=generator).double() for _ in range(2))
    outputs.requires_grad_()
    normal = Normal(outputs, head.log_std.exp())
    found = head.log_prob(outputs, actions)
    torch.testing.assert_close(found, normal.log_prob(actions).sum(dim=1))
    torch.testing.assert_close(head.entropy(outputs), normal.entropy().sum(dim=1))
    scores = []
    for row in range(5):
        by_mean, by_std = torch.autograd.grad(found[row], [outputs, head.log_std], retain_graph=True)
        scores.append(by_mean.square().sum() + by_std.square().sum())
    torch.testing.assert_close(head.score_square(outputs, actions), torch.stack(scores))


def test_sampling_follows_the_probabilities() -> None:
    head = CategoricalHead([3])
    outputs = torch.tensor([[0.0, 1.0, -1.0]]).expand(20_000, 3)
    generator = torch.Generator().manual_seed(3)
    counts = head.sample(outputs, head.noise(20_000, generator))[:, 0].bincount(minlength=3)
    # Four standard errors of the largest probability.
    torch.testing.assert_close(counts / 20_000, outputs[0].softmax(dim=0), rtol=0, atol=4 * 0.0034)
    gauss = GaussianHead(1, log_std=0.5)
    drawn = gauss.sample(torch.full((20_000, 1), 2.0), gauss.noise(20_000, generator)).detach()
    assert abs(float(drawn.mean()) - 2) < 0.05 and abs(float(drawn.std()) - np.exp(0.5)) < 0.05


def test_the_normaliser_knows_all_observations_so_far() -> None:
    generator = torch.Generator().manual_seed(4)
    data = torch.randn(90, 3, generator=generator) * torch.tensor([5.0, 0.1, 1.0]) + 7
    data[:, 1] = 2.0
    normaliser = Normaliser(torch.tensor([True, True, False]))
    for part in data.split([20, 1, 69]):
        normaliser.add(part)
    torch.testing.assert_close(normaliser.mean, data.double().mean(dim=0))
    torch.testing.assert_close(normaliser.variance, data.double().var(dim=0, correction=0))
    found = normaliser(data)
    assert abs(float(found[:, 0].mean())) < 1e-5 and float(found[:, 0].std()) == pytest.approx(1, abs=0.01)
    assert (found[:, 1] == 0).all()  # it never changed: centred, and not blown up
    torch.testing.assert_close(found[:, 2], data[:, 2])


def test_a_new_unit_leaves_the_values_alone() -> None:
    value = Value(2, (4,), torch.Generator().manual_seed(5))
    inputs = torch.randn(9, 2, generator=torch.Generator().manual_seed(6))
    value.rescale(torch.tensor([1.0, 5.0, 9.0]))
    before = value(inputs)
    value.rescale(torch.tensor([100.0, -700.0]))
    assert float(value.unit) == 400
    torch.testing.assert_close(value(inputs), before, rtol=1e-4, atol=1e-3)
