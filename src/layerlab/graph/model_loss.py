"""The loss of a whole model in one step of autograd, wherever that is what layer by layer would compute."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, cast

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from layerlab.graph import ops
from layerlab.graph.kernels import one_step
from layerlab.graph.kernels.operators import ELU, NONE, RELU
from layerlab.graph.layers import GATConv, GraphLike
from layerlab.graph.loss import cross_entropy
from layerlab.graph.models import GAT, GCN, MLP, SGC
from layerlab.graph.sparse import SparseMatrix
from layerlab.lab import kernels, private
from layerlab.lab.kernels.listeners import heard
from layerlab.lab.kernels.registration import direct, plain

_Parts = tuple[list[one_step.Layer], list[Tensor | None]]
_Numbers = list[NDArray[Any] | None]


def _unobserved(parameter: Tensor) -> bool:
    """Whether autograd would do nothing with the parameter's gradient but store it."""
    return (
        parameter.grad is None
        and parameter.is_leaf
        and not parameter._backward_hooks
        and not getattr(parameter, private.ACCUMULATION_HOOKS, True)
    )


def _named(module: nn.Module, *names: str) -> list[Tensor | None]:
    """Attributes that mostly are parameters, without the module's own search for them."""
    own = module._parameters
    return [own[name] if name in own else getattr(module, name) for name in names]


def _state(parameter: Tensor | None) -> Hashable:
    """What `_fit` asks of a parameter, and where its numbers are: the same state, the same answer."""
    if parameter is None or not plain(parameter):
        return None if parameter is None else id(parameter)
    return (
        *(id(parameter), parameter.data_ptr(), parameter.shape, parameter.stride()),
        *(parameter.dtype, parameter.requires_grad),
    )


class ModelLoss:
    """``cross_entropy(model(x, graph), labels)`` for one model and fixed features.

    A GCN, GAT, SGC or MLP of this package on a CPU goes through `layerlab.graph.kernels.one_step`: same seeds, same
    numbers, same gradients, a fraction of the calls. Other models, hooks on a module, frozen weights, forward-mode
    derivatives, tracing and other devices are led layer by layer.

    Args:
        model: takes ``(x, graph)``.
        x: ``(m, in)`` features, constant.
        graph: one operator a layer, or None, as the model takes it.

    >>> from layerlab.graph.models import MLP
    >>> loss = ModelLoss(MLP(2, 3, 2), torch.eye(2), None)
    >>> loss(torch.tensor([0, 1])).shape
    torch.Size([])
    """

    def __init__(self, model: nn.Module, x: Tensor | SparseMatrix, graph: GraphLike | None) -> None:
        self.model, self.x, self.graph = model, x, graph
        self._stack: list[nn.Module] = list(getattr(model, "linears" if type(model) is MLP else "convs", ()))
        self._known = [(vars(module), tuple(module.children())) for module in model.modules()]
        self._numbers = x.values if isinstance(x, SparseMatrix) else x
        self._operators = tuple(graph) if isinstance(graph, Sequence) else ()
        self._made: tuple[Hashable, list[one_step.Layer]] | None = None
        # What was looked at last, the parameters (whose places in memory nobody else has meanwhile), and the outcome.
        self._looked: tuple[Hashable, _Parts, _Numbers | None] | None = None
        # A function and no method of self, which would be a ring: a batch would stay until the collector comes by.
        self._parts = self._way() if self._constant() else None

    def __call__(self, labels: Tensor) -> Tensor:
        """The mean cross-entropy; ``labels`` ``(n,)`` int64, n being the rows of the output."""
        parts = self._ready(labels)
        if parts is None:
            return cross_entropy(self.model(self.x, self.graph), labels)
        return one_step.loss_of(parts[0], *self._given(labels, parts[0]), parts[1])

    def backward(self, labels: Tensor) -> float:
        """``self(labels).backward()`` and the loss: where nobody can tell, without autograd's own way around.

        >>> from layerlab.graph.models import MLP
        >>> mlp = MLP(2, 3, 2)
        >>> loss = ModelLoss(mlp, torch.eye(2), None).backward(torch.tensor([0, 1]))
        >>> mlp.linears[0].weight.grad.shape
        torch.Size([3, 2])
        """
        parts = self._ready(labels)
        if (
            parts is None
            or torch.is_anomaly_enabled()
            or not all(p is None or _unobserved(p) for p in parts[1])
        ):
            loss = self(labels)
            loss.backward()
            return loss.item()
        layers, parameters, numbers = parts
        value, gradients = one_step.value_and_gradients(layers, *self._given(labels, layers), numbers)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if parameter is not None and gradient is not None:
                parameter.grad = torch.from_numpy(gradient)
        return float(value)

    def _ready(self, labels: Tensor) -> tuple[list[one_step.Layer], list[Tensor | None], _Numbers] | None:
        """Layers, parameters and their numbers for `one_step`, None where this call has to go layer by layer."""
        if self._parts is None or not self._unwatched() or not plain(labels):
            return None
        if not (torch.is_grad_enabled() and direct(self._numbers) and kernels.serve(self._numbers)):
            return None
        layers, parameters = parts = self._parts(self)
        state = (id(layers), labels.dtype, labels.shape, *map(_state, parameters))
        if self._looked is None or self._looked[0] != state:
            self._looked = (state, parts, self._fit(layers, parameters, labels))
        numbers = self._looked[2]
        return None if numbers is None else (layers, parameters, numbers)

    def _given(
        self, labels: Tensor, layers: list[one_step.Layer]
    ) -> tuple[SparseMatrix | NDArray[Any], Tensor, list[int]]:
        x = self.x if isinstance(self.x, SparseMatrix) else self.x.numpy()
        return x, labels, ops.new_seeds(sum(1 for layer in layers if layer.p))

    def _constant(self) -> bool:
        """Whether features and operators are what kernels take, and nothing is trained in them."""
        matrices = [m for m in (self.x, *self._operators) if isinstance(m, SparseMatrix)]
        numbers = [self._numbers, *(m.values for m in matrices)]
        return (
            all(isinstance(m, SparseMatrix) and m.pattern.trusted for m in self._operators)
            and all(m.pattern.trusted for m in matrices)
            and all(plain(t) and not t.requires_grad and t.dtype is self._numbers.dtype for t in numbers)
            and kernels.serve(self._numbers)
            and self._numbers.is_contiguous()
        )

    def _way(self) -> Callable[[ModelLoss], _Parts] | None:
        """What gathers layers and parameters of this model, None where it is not one of ours."""
        kind, depth = type(self.model), len(self._operators)
        if kind in (GCN, GAT) and depth == len(self._stack):
            return ModelLoss._gcn if kind is GCN else ModelLoss._gat
        if kind is SGC and self.graph is None:
            return ModelLoss._sgc
        return ModelLoss._mlp if kind is MLP else None

    def _unwatched(self) -> bool:
        """Whether nobody could tell that the modules are not called, and they are still what they were."""
        training = self.model.training
        for own, children in self._known:
            if (
                own["training"] is not training
                or "forward" in own
                or (*own.get("_modules", {}).values(),) != children
            ):
                return False
            for name in private.own_module_hooks:
                if own.get(name, True):
                    return False
        return not heard()

    def _fit(
        self, layers: list[one_step.Layer], parameters: list[Tensor | None], labels: Tensor
    ) -> _Numbers | None:
        """The parameters' memory where they are plain and trained, and everything has the right shape."""
        dtype = self._numbers.dtype
        for parameter in parameters:
            if parameter is not None and not (
                plain(parameter)
                and parameter.requires_grad
                and parameter.dtype is dtype
                and parameter.is_contiguous()
            ):
                return None
        numbers = [None if parameter is None else parameter.detach().numpy() for parameter in parameters]
        shape: tuple[int, int] | None = (self.x.shape[0], self.x.shape[1])
        first = 0
        for layer in layers:
            own = numbers[first : first + layer.parameters]
            shape = None if shape is None else layer.shape(*shape, own)
            first += layer.parameters
        fits = shape is not None and all(shape) and labels.dtype is torch.int64 and labels.shape == shape[:1]
        return numbers if fits else None

    def _p(self, p: float) -> float:
        return ops.probability(p, self.model.training)

    def _layers(self, key: Hashable, make: Callable[[], list[one_step.Layer]]) -> list[one_step.Layer]:
        """What ``make`` makes, made anew only where the key, everything that can be set on the model, has changed."""
        if self._made is None or self._made[0] != key:
            self._made = (key, make())
        return self._made[1]

    def _gcn(self) -> _Parts:
        model = cast(GCN, self.model)
        p = self._p(model.dropout)

        def make() -> list[one_step.Layer]:
            return [
                one_step.Convolution(operator, RELU if position else NONE, p, self._numbers.dtype)
                for position, operator in enumerate(self._operators)
            ]

        return self._layers(p, make), [
            parameter for conv in self._stack for parameter in _named(conv, "weight", "bias")
        ]

    def _gat(self) -> _Parts:
        model = cast(GAT, self.model)
        convs = cast(list[GATConv], self._stack)
        p = self._p(model.dropout)
        flat = [conv.concat or conv.heads == 1 for conv in convs]
        own = [(conv.heads, conv.negative_slope, self._p(conv.dropout)) for conv in convs]

        def make() -> list[one_step.Layer]:
            layers: list[one_step.Layer] = []
            dtype = self._numbers.dtype
            for position, (heads, slope, drop) in enumerate(own):
                pattern = self._operators[position].pattern
                layers += [
                    one_step.Convolution(None, ELU if position else NONE, p, dtype),
                    one_step.Attention(pattern, heads, slope, drop, dtype),
                    *([] if flat[position] else [one_step.Mean(heads)]),
                ]
            return layers

        parameters: list[Tensor | None] = []
        for conv, ends in zip(convs, flat, strict=True):
            weight, *vectors, bias = _named(conv, "weight", "att_target", "att_source", "bias")
            parameters += [weight, None, *vectors, *([] if ends else [None]), bias]
        return self._layers((p, *flat, *own), make), parameters

    def _sgc(self) -> _Parts:
        linear = cast(SGC, self.model).conv.linear
        dtype = self._numbers.dtype
        return self._layers(None, lambda: [one_step.Convolution(None, NONE, 0.0, dtype)]), [
            linear.weight,
            linear.bias,
        ]

    def _mlp(self) -> _Parts:
        model = cast(MLP, self.model)
        p = self._p(model.dropout)

        def make() -> list[one_step.Layer]:
            dtype = self._numbers.dtype
            return [
                one_step.Convolution(None, RELU if k else NONE, p, dtype) for k in range(len(self._stack))
            ]

        return self._layers(p, make), [
            parameter for linear in self._stack for parameter in _named(linear, "weight", "bias")
        ]
