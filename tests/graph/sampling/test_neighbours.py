"""Neighbour sampling: the twin's bits, every subset equally likely, the expectation of the whole operator."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from layerlab.errors import UserError
from layerlab.graph.field import Field, receptive_field
from layerlab.graph.sampling import reference
from layerlab.graph.sampling.neighbours import Sampler, checked_fanouts, sample_field
from layerlab.graph.sparse import Pattern, SparseMatrix
from layerlab.graph.structure import Graph


def with_hub(nodes: int = 200, *, directed: bool = False) -> SparseMatrix:
    """P of a random weighted graph in which node 0 has more neighbours than a word has bits."""
    rng = np.random.default_rng(0)
    source, target = rng.integers(0, nodes, (2, 3 * nodes))
    hub = min(150, nodes - 1)
    source[:hub], target[:hub] = np.arange(1, hub + 1), 0
    weight = rng.uniform(0.5, 2.0, len(source))
    graph = Graph.from_edges(source, target, num_nodes=nodes, weight=weight, directed=directed)
    return graph.normalized_adjacency()


def ring(nodes: int, reach: int) -> SparseMatrix:
    """Every node joined to the ``reach`` before and behind it: draws of all nodes are alike."""
    source = np.repeat(np.arange(nodes), reach)
    target = (source + np.tile(np.arange(1, reach + 1), nodes)) % nodes
    return Graph.from_edges(source, target, num_nodes=nodes).normalized_adjacency()


def offsets(field: Field, nodes: int, layer: int = -1) -> list[np.ndarray]:
    """Of each row of one layer of a ring's field, how far away its drawn neighbours are; itself left out."""
    operator, names = field.operators[layer], field.inputs.numpy()
    far = (names[operator.col.numpy()] - names[operator.row.numpy()]) % nodes
    return [row[row != 0] for row in np.split(far, operator.crow.numpy()[1:-1])]


def same(one: Field, other: Field) -> bool:
    pairs = zip(one.operators, other.operators, strict=True)
    return torch.equal(one.inputs, other.inputs) and all(
        a.shape == b.shape
        and torch.equal(a.crow.long(), b.crow.long())
        and torch.equal(a.col.long(), b.col.long())
        and torch.equal(a.values, b.values)
        for a, b in pairs
    )


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("fanouts", [[-1, -1, -1], [1000], []])
def test_fanouts_that_take_all_give_the_receptive_field(fanouts: list[int], directed: bool) -> None:
    operator = with_hub(directed=directed)
    nodes = torch.tensor([7, 0, 151, 3])
    assert same(sample_field(operator, nodes, fanouts, 5), receptive_field(operator, nodes, len(fanouts)))


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("fanouts", [[3, 2], [100, 1, 4], [0, 2], [-1, 5]])
def test_the_twin_has_the_same_bits(fanouts: list[int], scaled: bool) -> None:
    operator = with_hub(directed=True)
    nodes = torch.tensor([7, 0, 151, 3])
    for seed in (0, 2**64 - 1):
        fast = sample_field(operator, nodes, fanouts, seed, scaled=scaled)
        assert same(fast, reference.sample_field(operator, nodes, fanouts, seed, scaled=scaled))


def test_double_precision_and_long_offsets_draw_the_same() -> None:
    operator = with_hub()
    pattern = operator.pattern
    long = SparseMatrix(
        Pattern(pattern.crow.long(), pattern.col.long(), pattern.shape), operator.values.double()
    )
    nodes = torch.arange(20)
    one, other = (sample_field(matrix, nodes, [3, 3], 1) for matrix in (operator, long))
    assert torch.equal(one.inputs, other.inputs)
    assert other.operators[0].dtype is torch.float64
    torch.testing.assert_close(one.operators[0].to_dense(), other.operators[0].to_dense().float())


def test_a_row_keeps_itself_and_as_many_others_as_were_asked_for() -> None:
    operator = with_hub()
    field = sample_field(operator, torch.arange(200), [4], 2)
    (drawn,) = field.operators
    dense, whole = drawn.to_dense(), operator.to_dense()
    assert torch.equal(dense.diagonal(), whole.diagonal())
    entries = torch.diff(drawn.crow)
    assert torch.equal(entries, torch.clamp(torch.diff(operator.crow), max=5))
    assert ((dense != 0) <= (whole != 0)).all()
    assert (torch.diff(drawn.col)[torch.diff(drawn.row) == 0] > 0).all()  # ascending, so each once


def test_a_node_without_a_loop_gets_none() -> None:
    operator = SparseMatrix.from_dense(torch.ones(6, 6) - torch.eye(6))
    (drawn,) = sample_field(operator, torch.arange(6), [2], 0).operators
    assert torch.equal(drawn.to_dense().diagonal(), torch.zeros(6))
    assert drawn.values.tolist() == [2.5] * 12


@pytest.mark.parametrize(("reach", "count"), [(3, 1), (3, 2), (3, 5)])
def test_every_subset_is_equally_likely(reach: int, count: int) -> None:
    nodes = 6000
    drawn = offsets(sample_field(ring(nodes, reach), torch.arange(nodes), [count], 1), nodes)
    subsets: dict[tuple[int, ...], int] = {}
    for row in drawn:
        subsets[tuple(sorted(row))] = subsets.get(tuple(sorted(row)), 0) + 1
    assert len(subsets) == math.comb(2 * reach, count)
    assert stats.chisquare(list(subsets.values())).pvalue > 1e-3


def test_far_places_of_a_long_row_are_as_likely_as_near_ones() -> None:
    nodes, reach = 2000, 70
    drawn = np.concatenate(offsets(sample_field(ring(nodes, reach), torch.arange(nodes), [9], 4), nodes))
    counts = np.bincount(drawn, minlength=nodes)
    counts = counts[counts > 0]
    # Without replacement, counts of places vary less than a multinomial's: by the share that is not drawn.
    spread = ((counts - counts.mean()) ** 2).sum() / counts.mean() / (1 - 9 / 140)
    assert len(counts) == 140
    assert 1e-3 < stats.chi2(139).sf(spread) < 1 - 1e-3


@pytest.mark.parametrize("which", ["layers", "seeds", "batches"])
def test_draws_of_layers_and_of_seeds_are_independent(which: str) -> None:
    nodes = 6000
    operator, everybody = ring(nodes, 3), torch.arange(nodes)
    field = sample_field(operator, everybody, [1, 1], 1)
    one = offsets(field, nodes, -1)
    if which == "layers":
        other = offsets(field, nodes, 0)
    elif which == "seeds":
        other = offsets(sample_field(operator, everybody, [1], 2), nodes)
    else:  # one node and its neighbour, in one draw
        other = one[1:] + one[:1]
    table = np.zeros((7, 7))
    places = {-3: 0, -2: 1, -1: 2, 1: 4, 2: 5, 3: 6}
    for (a,), (b,) in zip(one, other, strict=True):
        table[places[int((a + 3) % nodes - 3)], places[int((b + 3) % nodes - 3)]] += 1
    table = table[np.ix_([0, 1, 2, 4, 5, 6], [0, 1, 2, 4, 5, 6])]
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_the_expectation_is_the_whole_operator() -> None:
    operator = with_hub(60)
    whole, sampler, rounds = operator.to_dense().double(), Sampler(operator, [3]), 4000
    total, squares = torch.zeros_like(whole), torch.zeros_like(whole)
    for seed in range(rounds):
        (drawn,) = sampler.field(torch.arange(60), seed).operators
        dense = drawn.to_dense().double()
        total += dense
        squares += dense**2
    mean = total / rounds
    error = ((squares / rounds - mean**2).clamp(min=0) / rounds).sqrt()
    varies = error > 0
    assert torch.allclose(mean[~varies], whole[~varies], rtol=1e-6)
    deviation = ((mean - whole)[varies] / error[varies]).abs()
    assert varies.sum() > 200
    assert deviation.max() < 4.5  # of some hundred normal numbers
    assert stats.kstest(((mean - whole)[varies] / error[varies]).numpy(), "norm").pvalue > 1e-3


def test_a_sampler_leaves_its_scratch_clean() -> None:
    operator, nodes = with_hub(), torch.tensor([0, 5, 9])
    sampler = Sampler(operator, [70, 3])
    first = sampler.field(nodes, 1)
    with pytest.raises(UserError, match="every node once, got node 5"):
        sampler.field(torch.tensor([0, 5, 9, 5]), 1)
    assert same(sampler.field(nodes, 1), first)
    assert same(Sampler(operator, [70, 3]).field(nodes, 1), first)


def test_no_batch_is_a_field_too() -> None:
    field = sample_field(with_hub(), torch.tensor([], dtype=torch.int64), [2, 2], 0)
    assert [operator.shape for operator in field.operators] == [(0, 0), (0, 0)]


def test_the_inputs_are_never_the_callers_memory() -> None:
    nodes = torch.tensor([1, 2])
    sample_field(with_hub(), nodes, [], 0).inputs[0] = 9
    assert nodes.tolist() == [1, 2]


@pytest.mark.parametrize("fanout", [-2, 1.5, True, "3", 2**31])
def test_fanouts_of_another_kind_are_refused(fanout: object) -> None:
    with pytest.raises(UserError, match="number of neighbours for each layer"):
        checked_fanouts([1, fanout])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([-1], r"nodes in 0 \.\.\. 199, got -1 to -1"),
        ([3, 200], r"nodes in 0 \.\.\. 199, got 3 to 200"),
        ([[1]], r"list of nodes, got shape \(1, 1\)"),
        ([0.9], "list of nodes, got shape .* torch.float32"),
        ([True], "list of nodes, got shape .* torch.bool"),
    ],
)
def test_what_is_no_list_of_nodes_is_refused(nodes: list[int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        sample_field(with_hub(), torch.tensor(nodes), [1], 0)
    with pytest.raises(UserError, match=message):
        receptive_field(with_hub(), torch.tensor(nodes), 1)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seeds_out_of_range_are_refused(seed: int) -> None:
    with pytest.raises(UserError, match="expected a seed"):
        sample_field(with_hub(), torch.tensor([0]), [1], seed)


def test_operators_of_another_kind_are_refused() -> None:
    rectangular = SparseMatrix.from_dense(torch.ones(2, 3))
    trained = SparseMatrix(with_hub().pattern, with_hub().values.requires_grad_())
    for operator in (rectangular, trained):
        with pytest.raises(UserError, match="expected a square operator"):
            sample_field(operator, torch.tensor([0]), [1], 0)
