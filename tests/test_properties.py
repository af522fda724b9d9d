"""What holds whatever a file or a caller holds: loaders give back what was written, or say so in a line; kernels agree
with their definitions at any size."""

from __future__ import annotations

import tempfile
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.linalg import hadamard as matrix

from layerlab.errors import UserError
from layerlab.estimators.evaluation.log import Entry, EvaluationLog
from layerlab.estimators.space import Space
from layerlab.graph import Graph
from layerlab.graph.npz import from_npz, to_npz
from layerlab.graph.sources import edge_list
from layerlab.lab.arrays import read_npz
from layerlab.lab.json_files import read_json, write_json
from layerlab.lab.records import create_run, open_run
from layerlab.lab.weights import read_tensors, write_tensors
from layerlab.projection.archive import read
from layerlab.projection.certificate import certify
from layerlab.projection.hadamard import hadamard
from layerlab.segmentation.class_files import read_classes
from layerlab.segmentation.images import read_header, read_image, read_labels
from layerlab.segmentation.kernels.convolution import weight_gradient
from layerlab.segmentation.masks import Classes, codes
from layerlab.segmentation.metrics import confusion

EXACT = settings(derandomize=True, deadline=None, max_examples=40)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | FINITE
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@EXACT
@given(st.text(max_size=2_000), st.text(max_size=20))
def test_an_error_is_one_line_that_a_terminal_can_show(message: str, file: str) -> None:
    shown = str(UserError(message, file=file))
    assert len(shown) <= 1_000
    assert shown.encode()
    assert not {unicodedata.category(letter) for letter in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@pytest.mark.parametrize("cell", ["\0" * 5_000, "7" * 10**6, "a b " * 5_000])
def test_a_long_cell_is_quoted_in_part(cell: str) -> None:
    shown = str(UserError(f"expected a number, got {cell!r}; write one", file="a.csv", line=3))
    assert len(shown) < 1_000
    assert shown.startswith("a.csv:3: expected a number, got ")
    assert shown.endswith("; write one")


@EXACT
@given(JSON)
def test_records_come_back_as_they_were(value: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / "a.json", value)
        assert read_json(Path(folder) / "a.json") == value


@EXACT
@given(st.binary(max_size=300), st.sampled_from(["json", "npz", "npy", "csv", "safetensors", "txt"]))
def test_any_bytes_are_read_or_refused(content: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{suffix}"
        path.write_bytes(content)
        for reader in (
            read_json,
            read_npz,
            from_npz,
            edge_list,
            read,
            read_classes,
            Space.parse(bits=2).read,
            lambda place: read_tensors(place, "write it again"),
            lambda place: EvaluationLog(place, {}).close(),
        ):
            try:
                reader(path)
            except UserError as error:
                assert "a." in str(error)


@EXACT
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=25), st.data())
def test_graphs_come_back_from_archives_and_edge_lists(
    pairs: list[tuple[int, int]], data: st.DataObject
) -> None:
    weight = data.draw(st.none() | st.lists(st.floats(0.25, 4), min_size=len(pairs), max_size=len(pairs)))
    ends = [list(side) for side in zip(*pairs, strict=True)]
    try:
        graph = Graph.from_edges(*ends, num_nodes=10, weight=weight)
    except UserError:
        return  # an edge with two weights
    with tempfile.TemporaryDirectory() as folder:
        to_npz(graph, Path(folder) / "g.npz")
        assert from_npz(Path(folder) / "g.npz") == graph
        source, target, weights = graph.edges()
        names = [f"{a},{b}" for a, b in zip(source.tolist(), target.tolist(), strict=True)]
        if weights is not None:
            names = [f"{name},{value!r}" for name, value in zip(names, weights.tolist(), strict=True)]
        (Path(folder) / "g.csv").write_text("\n".join(names))
        found = edge_list(Path(folder) / "g.csv")
        assert found.num_edges == graph.num_edges
        kept = sorted({*source.tolist(), *target.tolist()})
        again = [[kept[i] for i in side.tolist()] for side in found.edges()[:2]]
        assert sorted(zip(*again, strict=True)) == sorted(zip(source.tolist(), target.tolist(), strict=True))


@EXACT
@given(st.lists(st.tuples(st.text("01", min_size=3, max_size=3), st.none() | FINITE), max_size=12))
def test_evaluations_come_back_in_their_order(made: list[tuple[str, float | None]]) -> None:
    entries = [
        Entry(number, f'"{sample}"', value, 0.5, "" if value is not None else "raised")
        for number, (sample, value) in enumerate(made, 1)
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.jsonl"
        with EvaluationLog(path, {"function": "f"}) as log:
            log.append(entries)
        with path.open("ab") as stream:
            stream.write(b'{"n": 99, "sam')
        with EvaluationLog(path, {"function": "f"}) as log:
            assert (log.torn, log.lines) == (True, len(entries))
            assert [log.take(entry.key) for entry in entries] == entries


@EXACT
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["float32", "float64", "int64", "bool"]), st.lists(st.integers(0, 4), max_size=3)
        )
    )
)
def test_tensors_come_back_bit_by_bit(made: list[tuple[str, list[int]]]) -> None:
    tensors = {
        f"t{i}": (drawn(i, *shape) * 9).to(getattr(torch, dtype)) for i, (dtype, shape) in enumerate(made)
    }
    with tempfile.TemporaryDirectory() as folder:
        write_tensors(Path(folder) / "a.safetensors", tensors, {"a": "b"})
        found, header = read_tensors(Path(folder) / "a.safetensors", "")
    assert header == {"a": "b"}
    assert found.keys() == tensors.keys()
    assert all(
        torch.equal(found[name], tensors[name]) and found[name].dtype == tensors[name].dtype
        for name in tensors
    )


@EXACT
@given(st.integers(0, 9), st.integers(0, 5), st.integers(0, 1_000))
def test_the_fast_transform_is_the_matrix(bits: int, rows: int, seed: int) -> None:
    x = drawn(seed, rows, 1 << bits).double()
    expected = x @ torch.tensor(matrix(1 << bits), dtype=torch.float64)
    torch.testing.assert_close(hadamard(x), expected, rtol=0, atol=1e-13 * (1 << bits))


@EXACT
@given(st.integers(2, 70), st.integers(1, 150), st.booleans(), st.integers(0, 1_000))
def test_a_coherence_is_the_largest_cosine(count: int, dim: int, signs: bool, seed: int) -> None:
    x = drawn(seed, count, dim).double()
    x = x.sign() if signs else x
    unit = torch.nn.functional.normalize(x)
    cosines = (unit @ unit.T).abs().fill_diagonal_(0)
    assert abs(certify(x).coherence - float(cosines.max())) < 1e-12


@EXACT
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.integers(0, 1_000))
def test_the_gradient_of_a_convolution_is_torchs(n: int, half: int, h: int, w: int, seed: int) -> None:
    x, g = (
        drawn(seed + i, n, c, h, w).contiguous(memory_format=torch.channels_last)
        for i, c in ((0, 2 * half), (1, 16))
    )
    expected = torch.nn.grad.conv2d_weight(x.double(), (16, 2 * half, 3, 3), g.double(), padding=1)
    assert float((weight_gradient(x, g).double() - expected).abs().max()) < 3e-6 * (n * h * w) ** 0.5


@EXACT
@given(st.integers(1, 6), st.integers(0, 60), st.integers(0, 1_000))
def test_a_confusion_matrix_counts_pairs(classes: int, pixels: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    target, predicted = draw.integers(0, classes, (2, 1, pixels))
    expected = np.zeros((classes, classes), int)
    np.add.at(expected, (target.ravel(), predicted.ravel()), 1)
    np.testing.assert_array_equal(confusion(target, predicted, classes), expected)


_PICTURES = st.sampled_from([("png", {}), ("tif", {}), ("tif", {"compression": "tiff_lzw"}), ("bmp", {})])


@EXACT
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from(["L", "RGB"]),
    _PICTURES,
    st.integers(0, 99),
)
def test_pictures_come_back_pixel_by_pixel(
    size: tuple[int, int], mode: str, how: tuple[str, dict[str, str]], seed: int
) -> None:
    suffix, options = how
    shape = size if mode == "L" else (*size, 3)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{suffix}"
        Image.fromarray(pixels).save(path, **options)
        found = read_image(path)
        header = read_header(path)
        np.testing.assert_array_equal(found.pixels.squeeze(-1) if mode == "L" else found.pixels, pixels)
        assert (header.height, header.width, header.bits) == (*size, 8)
        labels = codes(read_labels(path).pixels)
    colour = 2**24 + pixels.astype(np.int64) @ (65536, 256, 1) if mode == "RGB" else pixels
    if mode == "RGB":
        grey = (pixels == pixels[..., :1]).all(-1)
        colour = np.where(grey, pixels[..., 0], colour)
    np.testing.assert_array_equal(labels.reshape(size), colour)


@EXACT
@given(st.tuples(st.integers(1, 40), st.integers(1, 40)), st.booleans(), st.integers(0, 99))
def test_deep_greys_come_back(size: tuple[int, int], png: bool, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 65536, size, dtype=np.uint16)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("a.png" if png else "a.tif")
        Image.fromarray(pixels).save(path)
        np.testing.assert_array_equal(read_image(path).pixels[..., 0], pixels)


@EXACT
@given(
    st.tuples(st.integers(8, 60), st.integers(8, 60)),
    st.sampled_from(["L", "RGB"]),
    st.integers(0, 255),
)
def test_a_flat_jpeg_comes_back_but_for_rounding(size: tuple[int, int], mode: str, level: int) -> None:
    # A JPEG keeps no pixel; a flat one it keeps to a level or two.
    pixels = np.full(size if mode == "L" else (*size, 3), level, np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jpg"
        Image.fromarray(pixels).save(path, quality=95)
        found = read_image(path).pixels
    assert found.shape == (*size, 1 if mode == "L" else 3)
    assert int(np.abs(found.astype(int) - level).max()) <= 2


@EXACT
@given(st.tuples(st.integers(1, 30), st.integers(1, 30)), st.integers(2, 255), st.integers(0, 99))
def test_a_palette_mask_means_its_indices(size: tuple[int, int], colours: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    indices = draw.integers(0, colours, size, dtype=np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(draw.integers(0, 256, 3 * colours, dtype=np.uint8).tobytes())
    with tempfile.TemporaryDirectory() as folder:
        image.save(Path(folder) / "a.png")
        found = read_labels(Path(folder) / "a.png").pixels
    np.testing.assert_array_equal(codes(found).reshape(size), indices)
    classes = Classes.parse([f"c{value}={value}" for value in range(colours)])
    np.testing.assert_array_equal(classes.apply(codes(found)).reshape(size), indices)


# What Pillow thinks of odd metadata; the command line keeps it to itself.
@pytest.mark.filterwarnings(r"ignore::UserWarning:PIL\..*")
@EXACT
@given(st.sampled_from(["png", "jpg", "tif", "bmp"]), st.integers(0, 10**9), st.integers(0, 7))
def test_a_flipped_bit_of_a_picture_is_told_or_is_another_picture(suffix: str, place: int, bit: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{suffix}"
        Image.fromarray(pixels).save(path)
        content = bytearray(path.read_bytes())
        content[place % len(content)] ^= 1 << bit
        path.write_bytes(content)
        try:
            found = read_image(path)
        except UserError as error:
            assert "a." in str(error)
        else:
            assert found.pixels.shape[2] in (1, 3)


@EXACT
@given(JSON, st.integers(0, 10**9), st.integers(0, 7))
def test_a_flipped_bit_of_a_run_record_is_told_or_is_other_json(value: object, place: int, bit: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = create_run(Path(folder) / "run", "race", ["layerlab"], {"value": value})
        run.write_cell("a-0", {"value": value})
        assert open_run(run.path).read_cells() == {"a-0": {"value": value}}
        assert open_run(run.path).meta["config"] == {"value": value}
        path = run.path / "run.json"
        content = bytearray(path.read_bytes())
        content[place % len(content)] ^= 1 << bit
        path.write_bytes(content)
        del run
        try:
            found = open_run(Path(folder) / "run")
        except UserError as error:
            assert "run" in str(error)
        else:
            assert isinstance(found.meta["config"], dict)
