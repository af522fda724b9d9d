"""Edge lists as people write them, and the complaints about those that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerlab.errors import UserError
from layerlab.graph.edge_table import read_edge_table


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "edges.txt"


@pytest.mark.parametrize(
    "text",
    [
        "0,1\n1,2\n",
        "0\t1\n1\t2\n",
        "0;1\n1;2\n",
        "0 1\n1 2\n",
        "0   1  \n  1 2\n",
        "0, 1\n1 ,2",
        '"0","1"\n"1",2\n',
        "source,target\n0,1\n1,2\n",
        "SRC\tDst\n0\t1\n1\t2\n",
        '# some words, with a comma; and more\n\n0 1\n   \n# "an open quote\n1 2\n\n',
        "\ufeff0,1\n1,2\n",
        "\ufeffsource,target\r\n0,1\r\n1,2\r\n",
        "0,1\r1,2\r",
    ],
)
def test_the_same_edges_in_every_dress(file: Path, text: str) -> None:
    file.write_bytes(text.encode())
    table = read_edge_table(file)
    assert (table.source, table.target, table.weight) == (["0", "1"], ["1", "2"], None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,b,0.5\nb,c,-2e-3\n", (["a", "b"], ["b", "c"], [0.5, -0.002], [1, 2])),
        ("from;to;weight\na;b;1\n", (["a"], ["b"], [1.0], [2])),
        ('"x, y";"a ""b"""\n', (["x, y"], ['a "b"'], None, [1])),
        ("a;1,5\nb;2\n", (["a", "b"], ["1,5", "2"], None, [1, 2])),
        ('"x;y","z"\n', (["x;y"], ["z"], None, [1])),
        ("New York\tLos Angeles\n", (["New York"], ["Los Angeles"], None, [1])),
        ('"New York" Paris 3\n', (["New York"], ["Paris"], [3.0], [1])),
        ("u,v\nv,w\n", (["u", "v"], ["v", "w"], None, [1, 2])),  # no header: node names
        ("source,target\n", ([], [], None, [])),
        ("# a\r\n\r\n0 1\r\n# b\r\n1 2", (["0", "1"], ["1", "2"], None, [3, 5])),
        ("a\u2028b,c\n", (["a\u2028b"], ["c"], None, [1])),
    ],
)
def test_columns_and_line_numbers(file: Path, text: str, expected: tuple) -> None:
    file.write_bytes(text.encode())
    assert tuple(read_edge_table(file)) == expected


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"", None, "the file holds no edges"),
        (b"\n \n# only words\n", None, "the file holds no edges"),
        (b"0\n1,2\n", 1, "dangling edge: expected a source and a target, got '0' only"),
        (b"0,1\n\n2\n", 3, "dangling edge: expected a source and a target, got '2' only"),
        (b"0,1\n2,\n", 2, "the target of this edge is empty"),
        (b"0,1\n,2\n", 2, "the source of this edge is empty"),
        (b"0,1\n1,2,3\n", 2, "expected 2 columns as in the lines before, got 3"),
        (b"0,1,1.0\n1,2\n", 2, "expected 3 columns as in the lines before, got 2"),
        (b"0,1,2,3\n", 1, "or source,target,weight, got 4 columns"),
        (b"source,target,year\n0,1,1999\n", 1, "column 'year' stands where 'weight' is expected"),
        (b"target,source\n0,1\n", 1, "column 'target' stands where 'source' is expected"),
        (b"0,1,x\n", 1, "expected a finite number as weight, got 'x'"),
        (b"0,1,1\n1,2,nan\n", 2, "expected a finite number as weight, got 'nan'"),
        (b"0,1,1\n1,2,-inf\n", 2, "expected a finite number as weight, got '-inf'"),
        (b"0,1,1e999\n", 1, "expected a finite number as weight, got '1e999'"),
        (b"0,1,1_0\n", 1, "expected a finite number as weight, got '1_0'"),
        (b"0,1,\n", 1, "expected a finite number as weight, got ''"),
        (b"0;1;0,5\n", 1, "expected a finite number as weight, got '0,5'"),
        (b"0,1\n1,\xff\n", 2, "this line is not UTF-8"),
        ("0,1\n".encode("utf-16"), 1, "this line is not UTF-8"),
        (b'0,1\n"1,2\n3,4\n', 2, "not a line of a table"),
        (b'0,1\n"1\n2",3\n', 2, "a quoted field is not closed on its line"),
        (b'0,1\n"1"x,2\n', 2, "not a line of a table"),
        (b"0,1\n1," + b"9" * 200_000 + b"\n", 2, "not a line of a table"),
    ],
)
def test_complaints_name_file_and_line(file: Path, content: bytes, line: int | None, message: str) -> None:
    file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_edge_table(file)
    assert message in str(caught.value)
    assert (caught.value.file, caught.value.line) == (str(file), line)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there(file: Path) -> None:
    for path in (file, file.parent):
        with pytest.raises(UserError, match="cannot be read") as caught:
            read_edge_table(path)
        assert caught.value.file == str(path)
