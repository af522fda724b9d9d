"""Ways to spoil text: words, JSON, tables, a user's Python file."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

WORDS = [
    "",
    " ",
    "0",
    "-1",
    "1",
    "nan",
    "inf",
    "-inf",
    "1e308",
    "1e400",
    "-1e-400",
    "9" * 25,
    "9" * 400,
    "0x10",
    "1_000",
    "٣",
    "½",
    "true",
    "null",
    "None",
    "é",
    "日本",
    "🙂",
    "a\x00b",
    "\x1b[31mred",
    "\u202egnirts",
    "\ufeff",
    "a,b",
    'a"b',
    "a;b",
    "a\tb",
    "a\nb",
    "a\rb",
    "../../x",
    "/",
    "x" * 3000,
    "#",
    "=1+1",
    "{}",
    "[]",
    "%s",
    "{0}",
    "\ud800",
    "<b>&",
]
VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    -(2**63) - 1,
    10**30,
    0.5,
    -0.0,
    1e308,
    1e-320,
    [],
    {},
    [[]],
    [None],
    "",
    "x",
    {"a": 1},
    [1, 2, 3],
    *WORDS,
]


def spoiled_word(word: str, rng: Random) -> str:
    """A text argument, spoiled."""
    way = rng.randrange(5)
    if way == 0 or not word:
        return rng.choice(WORDS).replace("\x00", "").encode("utf-8", "replace").decode()
    place = rng.randrange(len(word))
    if way == 1:
        return word[:place]
    if way == 2:
        return word[:place] + rng.choice("0-9,:x=.*#%[](){}é\\^ ") + word[place:]
    if way == 3:
        return word[:place] + str(rng.choice([0, -1, 10**9, 10**30, "1e400", "nan"])) + word[place + 1 :]
    return word + rng.choice([",", ":", "=", word, "," + word, " "])


# ---------------------------------------------------------------- JSON


def _nodes(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at]
    if isinstance(value, dict):
        for key, entry in value.items():
            found += _nodes(entry, (*at, key))
    elif isinstance(value, list):
        for place, entry in enumerate(value[:30]):
            found += _nodes(entry, (*at, place))
    return found


def spoiled_json(value: Any, rng: Random) -> tuple[Any, str]:
    """A JSON value with one node changed, gone, renamed or doubled, and which."""
    at = rng.choice(_nodes(value))
    way = rng.choice(["change", "change", "change", "near", "gone", "renamed", "wrapped"])
    if not at:
        new = rng.choice(VALUES)
        return new, f"whole = {str(new)[:20]!a}"
    parent = value
    for step in at[:-1]:
        parent = parent[step]
    old = parent[at[-1]]
    if way == "gone":
        del parent[at[-1]]
    elif way == "renamed" and isinstance(parent, dict):
        parent[rng.choice(WORDS)] = parent.pop(at[-1])
    elif way == "wrapped":
        parent[at[-1]] = rng.choice([[old], {"a": old}, [old, old]])
    elif way == "near" and isinstance(old, (int, float)):
        parent[at[-1]] = rng.choice(
            [-old, old + 1, old * 1000, old * 10**15, float(old), str(old), old + 0.5]
        )
    elif way == "near" and isinstance(old, str):
        parent[at[-1]] = spoiled_word(old, rng)
    elif way == "near" and isinstance(old, list):
        parent[at[-1]] = rng.choice([old[:-1], old * 2, old[::-1], [str(entry) for entry in old]])
    else:
        parent[at[-1]] = rng.choice(VALUES)
    return (
        value,
        f"{way} at {'.'.join(map(str, at))} -> {str(parent[at[-1]])[:20]!a}" if way != "gone" else f"no {at}",
    )


def written(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def json_value(path: Path, rng: Random) -> str:
    value, done = spoiled_json(json.loads(path.read_text()), rng)
    path.write_bytes(written(value))
    return done


def json_text(path: Path, rng: Random) -> str:
    text = path.read_text()
    way = rng.randrange(6)
    if way == 0:
        deep = rng.choice([500, 5_000, 200_000])
        path.write_text("[" * deep + "]" * deep)
        return f"{deep} deep"
    if way == 1:
        path.write_text('{"a":' * 3000 + "1" + "}" * 3000)
        return "deep objects"
    numbers = [place for place, letter in enumerate(text) if letter.isdigit()]
    place = rng.choice(numbers or [0])
    put = rng.choice(["NaN", "-Infinity", "9" * 5000, "1e999", "-", "0" * 30, "1.", '"\\ud800"', '"\\u0000"'])
    path.write_text(text[:place] + put + text[place + 1 :])
    return put[:20]


def json_lines(path: Path, rng: Random) -> str:
    lines = path.read_text().splitlines()
    place = rng.randrange(len(lines))
    way = rng.choice(["value", "value", "value", "gone", "twice", "moved", "cut", "blank"])
    done = way
    if way == "value":
        value, done = spoiled_json(json.loads(lines[place]), rng)
        lines[place] = written(value).decode("utf-8", "surrogateescape")
    elif way == "gone":
        del lines[place]
    elif way == "twice":
        lines.insert(place, lines[place])
    elif way == "moved":
        lines.append(lines.pop(place))
    elif way == "cut":
        lines[place] = lines[place][: len(lines[place]) // 2]
    else:
        lines.insert(place, "")
    end = rng.choice(["\n", "\n", ""])
    path.write_bytes(("\n".join(lines) + end).encode("utf-8", "surrogateescape"))
    return done


# ---------------------------------------------------------------- tables


def table(path: Path, rng: Random) -> str:
    lines = path.read_text().splitlines()
    place = rng.randrange(len(lines))
    cells = lines[place].split(",")
    way = rng.choice(
        ["cell", "cell", "cell", "cell", "heading", "fewer", "more", "swap", "mark", "huge", "quote", "row"]
    )
    done = way
    if way == "cell":
        word = rng.choice(WORDS)
        cells[rng.randrange(len(cells))] = word
        done = f"cell {word[:12]!a}"
    elif way == "heading":
        place, cells = 0, lines[0].split(",")
        cells[rng.randrange(len(cells))] = rng.choice([*WORDS, cells[-1], cells[0]])
    elif way == "fewer":
        cells.pop()
    elif way == "more":
        cells.append(rng.choice(WORDS))
    elif way == "swap":
        rng.shuffle(lines)
        cells = lines[place].split(",")
    elif way == "huge":
        cells[rng.randrange(len(cells))] = "7" * rng.choice([5_000, 140_000])
    elif way == "quote":
        cells[0] = '"' + cells[0]
    elif way == "row":
        lines.insert(place, lines[place])
    lines[place] = ",".join(cells)
    if way == "mark":
        lines = [line.replace(",", rng.choice(";\t| ")) for line in lines]
    path.write_bytes(("\n".join(lines) + "\n").encode("utf-8", "surrogatepass"))
    return done


def python(path: Path, rng: Random) -> str:
    lines = path.read_text().splitlines()
    way = rng.choice(["gone", "moved", "indent", "raise", "exit", "nul", "star"])
    place = rng.randrange(len(lines))
    if way == "gone":
        del lines[place]
    elif way == "moved":
        lines.append(lines.pop(place))
    elif way == "indent":
        lines[place] = " " + lines[place]
    elif way == "star":
        lines[place] = lines[place].replace("x", "*x", 1)
    else:
        lines.insert(
            place,
            {"raise": "raise BaseException('ab\\ncd')", "exit": "import sys; sys.exit(3)", "nul": "\x00"}[
                way
            ],
        )
    path.write_text("\n".join(lines))
    return way
