"""The arms of a race: which skip connections each of them has, and which of them are held against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from layerlab.errors import UserError

DOCUMENT = {"on": 0.78, "off": 0.68}
"""Mean validation IoU in the solutions, question 4.2: "around", one run each, on data that are not named."""


def arms(levels: int) -> dict[str, tuple[str, ...]]:
    """Every arm of a U-Net of so many levels, with its skips, the finest first.

    ``on``: all; ``off``: none; ``zero``: none, but with the parameters of ``on``, which meet zeros. ``only-k``: level k
    alone, and ``without-k``: all but level k, with zeros in the others' places: same parameters, same initial values as
    ``on`` and ``zero``. Of arms that are the same network one is left.

    Args:
        levels: of the network, at least 2.

    Raises:
        UserError: a network of one level has no skips.

    >>> arms(3)["only-0"], list(arms(3))
    (('concatenate', 'zero'), ['on', 'off', 'zero', 'only-0', 'only-1'])
    >>> list(arms(4))[3:]
    ['only-0', 'only-1', 'only-2', 'without-0', 'without-1', 'without-2']
    """
    skips = levels - 1
    if skips < 1:
        raise UserError("a U-Net of one level has no skip connections to try; give at least two --widths")
    found = {
        name: (kind,) * skips for name, kind in (("on", "concatenate"), ("off", "off"), ("zero", "zero"))
    }
    for prefix, inside, outside in (("only", "concatenate", "zero"), ("without", "zero", "concatenate")):
        for level in range(skips):
            kinds = tuple(inside if place == level else outside for place in range(skips))
            if kinds not in found.values():
                found[f"{prefix}-{level}"] = kinds
    return found


def chosen(names: Sequence[str], levels: int) -> dict[str, tuple[str, ...]]:
    """The arms of these names; ``levels`` stands for all of single levels, ``all`` for all.

    Raises:
        UserError: an unknown name, one named twice, or none.

    >>> list(chosen(["on", "levels"], 3))
    ['on', 'only-0', 'only-1']
    """
    known = arms(levels)
    groups = {"all": list(known), "levels": [name for name in known if "-" in name]}
    wanted = [arm for name in names for arm in groups.get(name, [name])]
    if unknown := [name for name in wanted if name not in known]:
        raise UserError(
            f"expected arms of {', '.join(known)}, levels or all, got {unknown[0]!r}; mend --arms"
        )
    if not wanted or len(set(wanted)) < len(wanted):
        raise UserError("expected at least one arm, each once; mend --arms")
    return {name: known[name] for name in wanted}


def comparisons(raced: Mapping[str, Sequence[str]]) -> list[tuple[str, str, str]]:
    """Pairs of arms whose difference says something, left minus right, and what it says.

    Args:
        raced: skips of each arm, as `arms` gives them.

    >>> comparisons(chosen(["on", "off", "zero"], 3))[2]
    ('zero', 'off', 'the control against off: the same function')
    """
    pairs = {
        ("on", "off"): "what all skips bring",
        ("on", "zero"): "the same with equal parameters",
        ("zero", "off"): "the control against off: the same function",
    }
    levels = [of_level(raced, level) for level in range(len(next(iter(raced.values()), ())))]
    for level, (alone, _) in enumerate(levels):
        pairs.setdefault(alone, f"what level {level} brings alone")
    for level, (_, left_out) in enumerate(levels):
        pairs.setdefault(left_out, f"what is lost without level {level}")
    return [(*pair, what) for pair, what in pairs.items() if pair[0] in raced and pair[1] in raced]


def of_level(raced: Mapping[str, Sequence[str]], level: int) -> tuple[tuple[str, str], tuple[str, str]]:
    """The two pairs of arms that tell what a level brings: alone over none, and on top of all others.

    With two skips, level 0 alone is all but level 1: such an arm goes by one name. An arm that was not raced has the
    name "".

    >>> of_level(arms(3), 0)
    (('only-0', 'zero'), ('on', 'only-1'))
    """

    def named(inside: str, outside: str) -> str:
        return next(
            (
                name
                for name, skips in raced.items()
                if all(kind == (inside if place == level else outside) for place, kind in enumerate(skips))
            ),
            "",
        )

    return (named("concatenate", "zero"), "zero"), ("on", named("zero", "concatenate"))


def label(name: str) -> str:
    """How an arm is called on a page.

    >>> label("on"), label("only-0")
    ('with skips', 'level 0 alone')
    """
    fixed = {"on": "with skips", "off": "without", "zero": "zero control"}
    kind, _, level = name.partition("-")
    return fixed.get(name) or (f"level {level} alone" if kind == "only" else f"all but level {level}")
