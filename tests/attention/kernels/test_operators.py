"""Linear attention as torch operators: registration, derivatives, compilation, threads, memory layouts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from layerlab.attention.features import feature_map
from layerlab.attention.kernels import operators
from layerlab.attention.linear import linear_attention
from layerlab.errors import UserError
from layerlab.lab import kernels


def draw(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def some(n: int = 5, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """q with four heads, k and v with two."""
    return [draw(2, heads, n, 3, seed=heads + n, dtype=dtype) for heads in (4, 2)] + [
        draw(2, 2, n, 2, seed=0, dtype=dtype)
    ]


def calls(causal: bool) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Arguments of the operator and of its backward."""
    q, k, v = some()
    weights = draw(2, 1, 5, seed=4).exp()
    state = (draw(2, 2, 3, 2, seed=5), draw(2, 2, 3, seed=6).exp()) if causal else (None, None)
    forward = (q, k, v, weights, *state, 1, causal)
    out, denominators, s, z = operators.linear_attention(*forward)
    sums = state if causal else (s, z)
    return forward, (draw(*out.shape, seed=7), s, z, q, k, v, weights, out, denominators, *sums, 1, causal)


@pytest.mark.parametrize("causal", [False, True])
def test_opcheck(causal: bool) -> None:
    forward, backward = calls(causal)
    leaves = [x.requires_grad_() if isinstance(x, Tensor) and i != 3 else x for i, x in enumerate(forward)]
    torch.library.opcheck(torch.ops.layerlab.linear_attention.default, leaves)
    plain = [x.detach() if isinstance(x, Tensor) else x for x in backward]
    torch.library.opcheck(torch.ops.layerlab.linear_attention_backward.default, plain)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", [0, 1])
def test_first_and_second_gradients(kind: int, causal: bool) -> None:
    (q, k, v, weights, s, z, *_), _ = calls(causal)
    if kind == 0:
        q, k = q.exp(), k.exp()
    given = [x for x in (q, k, v, s, z) if x is not None]

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        q, k, v, *state = inputs
        out, _, s, z = operators.linear_attention(q, k, v, weights, *(state or (None, None)), kind, causal)
        return (out, s, z) if causal else (out,)

    leaves = [x.detach().requires_grad_() for x in given]
    assert torch.autograd.gradcheck(run, leaves, fast_mode=True, atol=1e-8)
    assert torch.autograd.gradgradcheck(run, leaves, fast_mode=True, atol=1e-8)


def test_second_gradients_of_some_inputs_only() -> None:
    q, k, v = some()
    v.requires_grad_()
    (first,) = torch.autograd.grad(linear_attention(q, k, v).square().sum(), v, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), v)
    with kernels.disabled():
        (first,) = torch.autograd.grad(linear_attention(q, k, v).square().sum(), v, create_graph=True)
        (expected,) = torch.autograd.grad(first.sum(), v)
    torch.testing.assert_close(second, expected)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", ["elu", "random"])
def test_it_compiles_into_one_graph(name: str, causal: bool) -> None:
    phi = feature_map(name, head_size=3)
    q, k, v = (x.requires_grad_() for x in some(70, torch.float32))
    mask, lengths = draw(2, 1, 1, 70, seed=1) > 0, torch.tensor([70, 3])

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return linear_attention(q, k, v, feature_map=phi, causal=causal, mask=mask, lengths=lengths)

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    torch._dynamo.reset()
    for function in (compiled, run):
        out = function(q, k, v)
        found = (out, *torch.autograd.grad(out.square().sum(), (q, k, v)))
        if function is compiled:
            first = found
    for got, expected in zip(first, found, strict=True):
        torch.testing.assert_close(got, expected)


def test_forward_mode_and_functional_transforms_take_the_plain_path() -> None:
    q, k, v = some()

    def run(q: Tensor) -> Tensor:
        return linear_attention(q, k, v, causal=True)

    direction = draw(*q.shape, seed=9)
    _, tangent = torch.func.jvp(run, (q,), (direction,))
    step = 1e-6
    expected = (run(q + step * direction) - run(q - step * direction)) / (2 * step)
    torch.testing.assert_close(tangent, expected, rtol=1e-6, atol=1e-8)
    gradient = torch.func.grad(lambda q: run(q).sum())(q)
    leaf = q.clone().requires_grad_()
    run(leaf).sum().backward()
    torch.testing.assert_close(gradient, leaf.grad)
    batched = torch.func.vmap(run)(torch.stack([q, 2 * q]))
    torch.testing.assert_close(batched, torch.stack([run(q), run(2 * q)]))


@pytest.mark.parametrize("causal", [False, True])
def test_bits_do_not_depend_on_threads(causal: bool) -> None:
    q, k, v = (draw(1, 3, 5000, 16, seed=i, dtype=torch.float32).requires_grad_() for i in range(3))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            out = linear_attention(q, k, v, causal=causal)
            found.append((out, *torch.autograd.grad(out.square().sum(), (q, k, v))))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("causal", [False, True])
def test_what_is_kept_for_the_backward_grows_as_n(causal: bool) -> None:
    kept: dict[int, int] = {}
    for n in (1000, 2000, 4000):
        q, k, v = (draw(1, 2, n, 16, seed=i, dtype=torch.float32).requires_grad_() for i in range(3))
        seen: dict[int, int] = {}

        def note(x: Tensor, seen: dict[int, int] = seen) -> Tensor:
            seen[x.data_ptr()] = x.nbytes
            return x

        with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
            linear_attention(q, k, v, causal=causal)
        kept[n] = sum(seen.values())
    # q, k, v, the output and the denominators, and (where all keys are seen) the sums.
    sums = 0 if causal else 2 * 17 * 16 * 8
    assert kept == {n: 2 * n * (4 * 16 + 1) * 4 + sums for n in kept}


@pytest.mark.parametrize("causal", [False, True])
def test_memory_layouts(causal: bool) -> None:
    """Heads that lie side by side, expanded batches, a head size that is not the innermost dimension."""
    base = draw(2, 70, 4, 6, seed=0)
    heads = base.transpose(1, 2)
    shared = base[:1].transpose(1, 2).expand(2, -1, -1, -1)
    turned = draw(2, 4, 6, 70, seed=1).transpose(2, 3)
    sliced = draw(2, 4, 70, 9, seed=2)[..., 2:8]
    layouts = [heads, shared, turned, sliced]
    for shift in range(4):
        q, k, v, grad = (*layouts[shift:], *layouts[:shift])
        found = []
        for given in ((q, k, v, grad), tuple(x.contiguous() for x in (q, k, v, grad))):
            leaves = [x.detach().requires_grad_() for x in given[:3]]
            out = linear_attention(*leaves, causal=causal)
            found.append((out, *torch.autograd.grad(out, leaves, given[3])))
        assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    # A sum gives its gradient as one number, expanded.
    leaf = heads.detach().requires_grad_()
    linear_attention(leaf, leaf, leaf, causal=causal).sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()


def test_the_operator_refuses_what_its_kernels_would_misread() -> None:
    q, k, v = some()
    for wrong in (
        (q.float(), k, v, None, None, None, 1, False),
        (q, k[:, :1], v, None, None, None, 1, False),
        (q, k, v, draw(2, 1, 4, seed=0), None, None, 1, False),
        (q, k, v, None, draw(2, 2, 3, 2, seed=0), None, 1, True),
        (q, k, v, None, draw(2, 2, 3, 2, seed=0), draw(2, 2, 3, seed=0), 1, False),
        (q[:, :, :4], k, v, None, None, None, 1, True),
        (q, k, v, None, None, None, 7, False),
    ):
        with pytest.raises(UserError, match="expected q, k, v of one dtype"):
            torch.ops.layerlab.linear_attention(*wrong)


def test_what_is_said_twice_so_that_numba_is_not_imported_is_the_same() -> None:
    from layerlab.attention.kernels import forward_cpu, rows

    assert operators._CHUNK == forward_cpu.CHUNK
    numbers = {kind.name: number for kind, number in operators.KINDS.items()}
    assert numbers == {"identity": rows.IDENTITY, "elu": rows.ELU, "relu": rows.RELU}
