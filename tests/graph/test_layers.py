"""Layers and models against dense twins and torch_geometric: outputs, gradients, K-hop fields, refusals."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from layerlab.errors import UserError
from layerlab.graph import reference
from layerlab.graph.interop import from_pyg, to_pyg
from layerlab.graph.layers import GATConv, GCNConv, SGConv
from layerlab.graph.models import GAT, GCN, MLP, SGC
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.structure import Graph

pytestmark = pytest.mark.usefixtures("either_path")


def random_graph(
    nodes: int, edges: int, seed: int, *, directed: bool = False, weighted: bool = False
) -> Graph:
    rng = np.random.default_rng(seed)
    source, target = rng.integers(0, nodes, (2, edges))
    weight = rng.uniform(0.5, 2.0, edges) if weighted else None
    return Graph.from_edges(source, target, num_nodes=nodes, weight=weight, directed=directed)


GRAPHS = {
    "undirected": random_graph(13, 30, 0),
    "directed": random_graph(11, 25, 1, directed=True),
    "weighted": random_graph(9, 20, 2, weighted=True),
    "isolated": Graph.from_edges([0, 1], [1, 2], num_nodes=6),
    "no edges": Graph.from_edges([], [], num_nodes=3),
    "one node": Graph.from_edges([], [], num_nodes=1),
    "self-loops": Graph.from_edges([0, 0, 1, 2], [0, 1, 2, 2], weight=[3.0, 1.0, 2.0, 0.5]),
}


def features(graph: Graph, width: int = 5, seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    dense = torch.randn(graph.num_nodes, width, generator=generator, dtype=torch.float64)
    return dense * (torch.rand(graph.num_nodes, width, generator=generator) < 0.6)


def dense_operator(graph: Graph, self_loops: bool = True) -> Tensor:
    return reference.normalized_adjacency(graph.adjacency(torch.float64).to_dense(), self_loops)


def neighbourhoods(graph: Graph) -> Tensor:
    mask = graph.adjacency(torch.float64).to_dense().t() != 0
    return mask | torch.eye(graph.num_nodes, dtype=torch.bool)


def gradients(output: Tensor, module: nn.Module) -> list[Tensor]:
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    return list(torch.autograd.grad((output * weights).sum(), list(module.parameters()), retain_graph=True))


def assert_same(ours: tuple[Tensor, list[Tensor]], theirs: tuple[Tensor, list[Tensor]]) -> None:
    for a, b in zip([ours[0], *ours[1]], [theirs[0], *theirs[1]], strict=True):
        torch.testing.assert_close(a, b.reshape(a.shape), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("self_loops", [True, False])
def test_gcn_conv_equals_its_dense_twin(name: str, self_loops: bool) -> None:
    torch.manual_seed(0)
    graph, x = GRAPHS[name], features(GRAPHS[name])
    layer = GCNConv(5, 3, self_loops=self_loops).double()
    nn.init.normal_(layer.bias)
    twin = reference.gcn_conv(x, dense_operator(graph, self_loops), layer.weight, layer.bias)
    ours = layer(x, graph)
    assert_same((ours, gradients(ours, layer)), (twin, gradients(twin, layer)))
    sparse = layer(SparseMatrix.from_dense(x), graph)
    assert_same((sparse, gradients(sparse, layer)), (twin, gradients(twin, layer)))


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("attention", ["per-head", "shared"])
@pytest.mark.parametrize("concat", [True, False])
def test_gat_conv_equals_its_dense_twin(name: str, attention: str, concat: bool) -> None:
    torch.manual_seed(0)
    graph, x = GRAPHS[name], features(GRAPHS[name])
    layer = GATConv(5, 2, heads=3, concat=concat, attention=attention).double()
    nn.init.normal_(layer.bias)
    twin = reference.gat_conv(
        x, neighbourhoods(graph), layer.weight, layer.att_target, layer.att_source, layer.bias, concat=concat
    )
    ours = layer(x, graph)
    assert_same((ours, gradients(ours, layer)), (twin, gradients(twin, layer)))
    sparse = layer(SparseMatrix.from_dense(x), graph)
    assert_same((sparse, gradients(sparse, layer)), (twin, gradients(twin, layer)))


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_sg_conv_equals_its_dense_twin(name: str, steps: int) -> None:
    torch.manual_seed(0)
    graph, x = GRAPHS[name], features(GRAPHS[name])
    layer = SGConv(5, 3, steps).double()
    twin = reference.sg_conv(x, dense_operator(graph), layer.linear.weight, layer.linear.bias, steps)
    ours = layer(SparseMatrix.from_dense(x), graph)
    assert_same((ours, gradients(ours, layer)), (twin, gradients(twin, layer)))


def test_attention_ignores_weights_even_negative_ones() -> None:
    torch.manual_seed(0)
    layer = GATConv(5, 2, heads=3).double()
    plain = Graph.from_edges([0, 1, 2], [1, 2, 3])
    weighted = Graph.from_edges([0, 1, 2], [1, 2, 3], weight=[-4.0, 0.0, 1e9])
    x = features(plain)
    assert torch.equal(layer(x, plain), layer(x, weighted))


@pytest.mark.parametrize("attention", ["per-head", "shared"])
def test_returned_attention_belongs_to_its_edges(attention: str) -> None:
    torch.manual_seed(0)
    graph, x = GRAPHS["directed"], features(GRAPHS["directed"])
    layer = GATConv(5, 2, heads=3, attention=attention, dropout=0.5).double()
    _, (source, target, coefficients) = layer(x, graph, return_attention=True)
    mask = neighbourhoods(graph)
    assert mask[target, source].all()
    assert len(source) == int(mask.sum())
    for head in range(3):
        which = head if attention == "per-head" else 0
        z = x @ layer.weight.split(2)[head].t()
        a = torch.cat([layer.att_target[which], layer.att_source[which]])
        twin = reference.gat_coefficients(z, mask, a)
        torch.testing.assert_close(coefficients[:, head], twin[target, source], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "layer",
    [GCNConv(3, 2), GATConv(3, 2, heads=2), GATConv(3, 2, heads=2, attention="shared"), SGConv(3, 2, 2)],
)
def test_gradcheck_in_float64(layer: nn.Module) -> None:
    torch.manual_seed(1)
    layer = copy.deepcopy(layer).double()
    graph = GRAPHS["isolated"]
    x = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    names, parameters = zip(*layer.named_parameters(), strict=True)

    def run(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x, graph))

    assert torch.autograd.gradcheck(run, (x, *parameters))
    assert torch.autograd.gradgradcheck(run, (x, *parameters))


def pyg_edges(graph: Graph) -> tuple[Tensor, Tensor | None]:
    coo = graph.adjacency(torch.float64)
    weight = coo.values if graph.weighted else None
    return torch.stack([coo.row.long(), coo.col.long()]), weight


@pytest.mark.parametrize("name", [name for name in GRAPHS if name != "no edges"])
@pytest.mark.parametrize("kind", ["GCNConv", "SGConv", "GATConv", "GATConv mean"])
def test_equals_torch_geometric_on_the_same_weights(name: str, kind: str) -> None:
    pyg = pytest.importorskip("torch_geometric.nn", reason="torch_geometric is in the test extra")
    torch.manual_seed(0)
    graph, x = GRAPHS[name], features(GRAPHS[name])
    edge_index, weight = pyg_edges(graph)
    if kind.startswith("GATConv"):
        theirs = pyg.GATConv(5, 2, heads=3, concat=kind == "GATConv").double()
        expected = theirs(x, edge_index)
    elif kind == "SGConv":
        theirs = pyg.SGConv(5, 3, K=3).double()
        expected = theirs(x, edge_index, weight)
    else:
        theirs = pyg.GCNConv(5, 3).double()
        expected = theirs(x, edge_index, weight)
    layer = from_pyg(theirs)
    ours = layer(x, graph)
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)
    back = to_pyg(layer)
    for key, value in theirs.state_dict().items():
        assert torch.equal(back.state_dict()[key], value), key
    order = {"weight": 0, "att_target": 1, "att_source": 2, "bias": 3}
    assert set(dict(layer.named_parameters())) <= {*order, "linear.weight", "linear.bias"}
    cotangent = torch.linspace(-1, 1, ours.numel(), dtype=ours.dtype).view_as(ours)
    ((ours * cotangent).sum() + (expected * cotangent).sum()).backward()
    mapping = {
        "GCNConv": [("weight", "lin.weight"), ("bias", "bias")],
        "SGConv": [("linear.weight", "lin.weight"), ("linear.bias", "lin.bias")],
    }.get(
        kind,
        [("weight", "lin.weight"), ("att_target", "att_dst"), ("att_source", "att_src"), ("bias", "bias")],
    )
    for our_name, their_name in mapping:
        our, their = layer.get_parameter(our_name).grad, theirs.get_parameter(their_name).grad
        torch.testing.assert_close(our, their.reshape(our.shape), rtol=1e-10, atol=1e-12)


def test_to_pyg_repeats_a_shared_attention_vector() -> None:
    pytest.importorskip("torch_geometric.nn", reason="torch_geometric is in the test extra")
    torch.manual_seed(0)
    graph, x = GRAPHS["undirected"], features(GRAPHS["undirected"])
    layer = GATConv(5, 2, heads=3, attention="shared").double()
    torch.testing.assert_close(to_pyg(layer)(x, pyg_edges(graph)[0]), layer(x, graph), rtol=1e-10, atol=1e-12)


def test_converters_refuse_what_they_cannot_carry() -> None:
    pyg = pytest.importorskip("torch_geometric.nn", reason="torch_geometric is in the test extra")
    for module in (
        pyg.GCNConv(3, 2, improved=True),
        pyg.GCNConv(3, 2, normalize=False, add_self_loops=False),
        pyg.SGConv(3, 2, add_self_loops=False),
        pyg.GATConv(3, 2, edge_dim=4),
        pyg.GATConv(3, 2, add_self_loops=False),
        pyg.GATConv((3, 3), 2),
        pyg.SAGEConv(3, 2),
        pyg.GCNConv(3, 2, aggr="max"),
        pyg.GATConv(3, 2, flow="target_to_source"),
        pyg.SGConv(3, 2, flow="target_to_source"),
        nn.Linear(3, 2),
    ):
        with pytest.raises(UserError):
            from_pyg(module)
    with pytest.raises(UserError, match="got Linear"):
        to_pyg(nn.Linear(3, 2))


MODELS = {
    "gcn": lambda: GCN(6, 8, 3),
    "gcn 3 layers": lambda: GCN(6, 8, 3, layers=3),
    "gat": lambda: GAT(6, 4, 3, heads=2, out_heads=2),
    "sgc": lambda: SGC(6, 3, steps=2),
    "sgc 4 steps": lambda: SGC(6, 3, steps=4),
}
FIELD = {"gcn": 2, "gcn 3 layers": 3, "gat": 2, "sgc": 2, "sgc 4 steps": 4}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_sees_exactly_its_k_hop_field(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name]().double().eval()
    path = Graph.from_edges(range(9), range(1, 10))  # 0 - 1 - ... - 9
    x = torch.rand(10, 6, dtype=torch.float64, requires_grad=True)
    logits = model(x, path)
    assert logits.shape == (10, 3)
    (gradient,) = torch.autograd.grad(logits[4].sum() + (logits[4] ** 2).sum(), x)
    touched = gradient.abs().sum(1) > 0
    reach = FIELD[name]
    assert touched.tolist() == [abs(node - 4) <= reach for node in range(10)]


def test_mlp_sees_its_own_node_only() -> None:
    torch.manual_seed(0)
    x = torch.rand(10, 6, requires_grad=True)
    (gradient,) = torch.autograd.grad(MLP(6, 8, 3).eval()(x, None)[4].sum(), x)
    assert (gradient.abs().sum(1) > 0).nonzero().flatten().tolist() == [4]


@pytest.mark.parametrize("name", ["gcn", "gat"])
def test_dropout_acts_in_training_only_and_follows_the_seed(name: str) -> None:
    graph, x = GRAPHS["undirected"], features(GRAPHS["undirected"], 6).float()
    torch.manual_seed(0)
    model = MODELS[name]()
    model.eval()
    assert torch.equal(model(x, graph), model(x, graph))
    model.train()
    assert not torch.equal(model(x, graph), model(x, graph))
    torch.manual_seed(7)
    first = model(x, graph)
    torch.manual_seed(7)
    assert torch.equal(first, model(x, graph))


def test_sparse_features_stay_sparse(monkeypatch: pytest.MonkeyPatch) -> None:
    x = SparseMatrix.from_dense(features(GRAPHS["undirected"], 6).float())
    monkeypatch.setattr(SparseMatrix, "to_dense", lambda self: pytest.fail("features were made dense"))
    for model in (GCN(6, 8, 3), GAT(6, 4, 3), MLP(6, 8, 3)):
        model(x, GRAPHS["undirected"]).sum().backward()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GCNConv(0, 2), "in_features >= 1"),
        (lambda: GATConv(3, 2, heads=0), "heads >= 1"),
        (lambda: GATConv(3, 2, dropout=1.0), r"\[0, 1\)"),
        (lambda: GATConv(3, 2, attention="both"), "'per-head' or 'shared'"),
        (lambda: SGConv(3, 2, -1), "steps >= 0"),
        (lambda: GCN(3, 2, 2, layers=0), "layers >= 1"),
        (lambda: GCNConv(3, 2)(torch.zeros(13, 4), GRAPHS["undirected"]), r"\(nodes, 3\)"),
        (lambda: GCNConv(3, 2)(torch.zeros(12, 3), GRAPHS["undirected"]), "13 nodes, the features 12 rows"),
        (lambda: GCNConv(3, 2)(torch.zeros(13, 3), "cora"), "expected a Graph"),
        (lambda: GCNConv(3, 2)([[1.0]], GRAPHS["undirected"]), "expected features as a tensor"),
        (lambda: SGConv(3, 2)(torch.zeros(13, 3), torch.eye(13)), "expected a Graph"),
    ],
)
def test_bad_arguments_are_refused(make: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()  # type: ignore[operator]
