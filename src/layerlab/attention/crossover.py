"""From which length a mechanism is faster than softmax attention on this machine: measured, not looked up."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from layerlab.attention.calls import AttentionCall
from layerlab.attention.mechanisms import Mechanism, mechanism
from layerlab.errors import UserError

SHORTEST, LONGEST = 32, 16_384

# The longest sequence has no more numbers than this in its queries: 256 MiB of float32.
_MOST_NUMBERS = 1 << 26

# A length is measured until this share of the time is spent on it; a short one no longer than so many seconds.
_SHARE, _ENOUGH, _MANY = 0.08, 0.15, 30

# Short sequences take little time, and less to disturb: no mechanism has won before this length.
_CLEAR = 256

# Fewer runs would take a disturbance for the time.
_FEWEST = 3


@dataclass(frozen=True)
class Setting:
    """What is timed, apart from the length.

    Attributes:
        batch: examples.
        heads: of the queries.
        kv_heads: of keys and values.
        head_size: of queries and keys.
        value_size: of values.
        dtype: "float32", "float64", "bfloat16", "float16".
        causal: query i sees keys j <= i.
    """

    batch: int = 1
    heads: int = 8
    kv_heads: int = 8
    head_size: int = 64
    value_size: int = 64
    dtype: str = "float32"
    causal: bool = False

    @staticmethod
    def of(call: AttentionCall) -> Setting:
        """That of a call in a model."""
        batch, heads, _, head_size = call.q.shape
        return Setting(
            batch,
            heads,
            call.k.shape[1],
            head_size,
            call.v.shape[3],
            str(call.q.dtype).removeprefix("torch."),
            call.causal,
        )

    def drawn(self, length: int, *, gradients: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of a length: standard normal numbers, always the same."""
        generator = torch.Generator().manual_seed(length)
        sizes = (
            (self.heads, self.head_size),
            (self.kv_heads, self.head_size),
            (self.kv_heads, self.value_size),
        )
        q, k, v = (
            torch.randn(self.batch, heads, length, size, generator=generator)
            .to(getattr(torch, self.dtype))
            .requires_grad_(gradients)
            for heads, size in sizes
        )
        return q, k, v


@dataclass(frozen=True)
class Crossover:
    """The times of a mechanism beside those of softmax attention.

    Attributes:
        mechanism: its name.
        setting: of both.
        backward: whether the time holds the gradients.
        threads: of torch.
        lengths: ascending.
        softmax: seconds at each length, the least of repeated runs.
        other: those of the mechanism.
        length: from here on it is faster at every length that was measured; None where it is not up to the last.
        reason: why it cannot be timed; None where it was.
    """

    mechanism: str
    setting: Setting
    backward: bool
    threads: int
    lengths: tuple[int, ...]
    softmax: tuple[float, ...]
    other: tuple[float, ...]
    length: int | None
    reason: str | None = None

    def speed(self, length: int) -> float | None:
        """Time of softmax over that of the mechanism at a length, between those measured; None beyond them.

        >>> made = Crossover("linear", Setting(), False, 1, (32, 128), (1.0, 16.0), (2.0, 8.0), 64)
        >>> made.speed(32), made.speed(64), made.speed(256)
        (0.5, 1.0, None)
        """
        ratios = [math.log(a / b) for a, b in zip(self.softmax, self.other, strict=True)]
        if not ratios or not self.lengths[0] <= length <= self.lengths[-1]:
            return None
        for (n, a), (m, b) in itertools.pairwise(zip(self.lengths, ratios, strict=True)):
            if length <= m:
                share = math.log(length / n) / math.log(m / n)
                return math.exp(a + share * (b - a))
        return math.exp(ratios[-1])

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def sentence(self) -> str:
        """The answer in words.

        >>> Crossover("linear", Setting(), False, 1, (32, 64), (1.0, 2.0), (3.0, 4.0), None).sentence()
        'linear is not faster than softmax up to 64 tokens'
        """
        if self.reason is not None:
            return f"{self.mechanism} was not timed: {self.reason}"
        if self.length is None:
            return f"{self.mechanism} is not faster than softmax up to {self.lengths[-1]:,} tokens"
        if self.length <= self.lengths[0]:
            return f"{self.mechanism} is faster than softmax at all lengths measured, from {self.lengths[0]} tokens"
        return f"{self.mechanism} is faster than softmax from about {rounded(self.length):,} tokens on"


def rounded(length: int) -> int:
    """A length as exact as times on a machine are: two digits.

    >>> rounded(843), rounded(91), rounded(12345)
    (840, 91, 12000)
    """
    return round(length, 2 - len(str(length)))


def crossover(
    given: str | Callable[[int], Mechanism],
    setting: Setting,
    *,
    backward: bool = False,
    own: Sequence[int] = (),
    seconds: float = 5.0,
    longest: int = LONGEST,
) -> Crossover:
    """Times a mechanism and torch's fused softmax attention at doubling lengths, in turns.

    The answer is interpolated between the last length at which the mechanism is slower and the next, in the
    logarithms of length and ratio. Measuring ends where the mechanism has clearly won, or time or memory end.

    Args:
        given: a name of `layerlab.attention.mechanisms.mechanism`, or what makes a mechanism for a length.
        setting: sizes, dtype and causality.
        backward: time the gradients too.
        own: more lengths to measure, such as a model's own.
        seconds: about so long in all, after the first call of each.
        longest: no longer sequences than this.

    Raises:
        UserError: a longest length below the shortest, or no time.

    >>> found = crossover("linear", Setting(heads=2, kv_heads=2, head_size=8, value_size=8), seconds=0.2, longest=64)
    >>> found.lengths, len(found.other)
    ((32, 64), 2)
    """
    if longest < SHORTEST or not seconds > 0:  # of NaN, too: with it measuring would never end
        raise UserError(
            f"expected a longest length of at least {SHORTEST} and a time above 0, got {longest} and {seconds}"
        )
    name = given if isinstance(given, str) else given(SHORTEST).name
    longest = min(longest, _MOST_NUMBERS // (setting.batch * setting.heads * setting.head_size))
    lengths = {SHORTEST << i for i in range(64) if SHORTEST << i <= longest} | {
        n for n in own if 2 <= n <= longest
    }
    if not lengths:
        large = f"its batch of {setting.batch:,} is too large to time here; give a smaller one"
        return Crossover(name, setting, backward, torch.get_num_threads(), (), (), (), None, large)
    maximum_of_own = max((n for n in own if n <= longest), default=0)
    found: list[tuple[int, float, float]] = []
    left, wins = seconds, 0
    for n in sorted(lengths):
        attention = _made(given, setting, n)
        reason = attention.supports(causal=setting.causal, n=n, m=n)
        if reason is not None:
            return Crossover(name, setting, backward, torch.get_num_threads(), (), (), (), None, reason)
        # A length costs at most four times its half, and is run once more than it must.
        if found and n > maximum_of_own and left < (_FEWEST + 1) * (4 * found[-1][1] + 2 * found[-1][2]):
            break
        slow, fast, spent = _least(attention, setting, n, backward, seconds * _SHARE)
        found.append((n, slow, fast))
        left -= spent
        wins = wins + 1 if slow > 1.3 * fast else 0
        if wins >= 2 and n >= max(_CLEAR, maximum_of_own):
            break
    _again(found, given, setting, backward, seconds * _SHARE, left)
    measured, softmax, other = zip(*found, strict=True)
    return Crossover(
        name, setting, backward, torch.get_num_threads(), measured, softmax, other, _crossing(found)
    )


def _made(given: str | Callable[[int], Mechanism], setting: Setting, length: int) -> Mechanism:
    if not isinstance(given, str):
        return given(length)
    made = mechanism(
        given, heads=setting.heads, kv_heads=setting.kv_heads, head_size=setting.head_size, length=length
    )
    return made.to(getattr(torch, setting.dtype))


def _least(
    attention: Mechanism, setting: Setting, length: int, backward: bool, seconds: float
) -> tuple[float, float, float]:
    """The least time of softmax and of the mechanism, run in turns, and the time that took but for what is compiled."""
    q, k, v = setting.drawn(length, gradients=backward)

    def softmax() -> Tensor:
        return scaled_dot_product_attention(
            q, k, v, is_causal=setting.causal, enable_gqa=setting.heads != setting.kv_heads
        )

    def other() -> Tensor:
        output: Tensor = attention(q, k, v, causal=setting.causal)
        return output

    weight = torch.ones(setting.batch, setting.heads, length, setting.value_size, dtype=q.dtype)
    least = [math.inf, math.inf]
    with torch.set_grad_enabled(backward):
        for function in (softmax, other):
            # Compiles, allocates.
            _timed(function, weight, (q, k, v) if backward else ())
        started = time.perf_counter()
        for turn in itertools.count(1):
            for which, function in enumerate((softmax, other)):
                least[which] = min(least[which], _timed(function, weight, (q, k, v) if backward else ()))
            spent = time.perf_counter() - started
            if turn >= _FEWEST and spent > (min(seconds, _ENOUGH) if turn >= _MANY else seconds):
                break
    return least[0], least[1], spent + sum(least)


def _again(
    found: list[tuple[int, float, float]],
    given: str | Callable[[int], Mechanism],
    setting: Setting,
    backward: bool,
    share: float,
    seconds: float,
) -> None:
    """Measures once more where a longer sequence seems to pay less than a shorter one: something disturbed either."""
    until = time.perf_counter() + seconds
    ratios = [softmax / other for _, softmax, other in found]
    odd = {j for i in range(1, len(found)) if ratios[i] < ratios[i - 1] for j in (i - 1, i)}
    for i in sorted(odd):
        if time.perf_counter() > until:
            return
        n, softmax, other = found[i]
        again = _least(_made(given, setting, n), setting, n, backward, share)
        found[i] = (n, min(softmax, again[0]), min(other, again[1]))


def _timed(function: Callable[[], Tensor], weight: Tensor, inputs: Sequence[Tensor]) -> float:
    started = time.perf_counter()
    output = function()
    if inputs:
        torch.autograd.grad(output, inputs, weight)
    return time.perf_counter() - started


def _crossing(found: Sequence[tuple[int, float, float]]) -> int | None:
    """The length from which the mechanism is faster to the end; the first if it always is.

    >>> _crossing([(32, 1.0, 2.0), (128, 4.0, 2.0)]), _crossing([(32, 1.0, 2.0)]), _crossing([(32, 2.0, 1.0)])
    (64, None, 32)
    """
    ratios = [(n, math.log(softmax / other)) for n, softmax, other in found]
    slower = [i for i, (_, ratio) in enumerate(ratios) if ratio <= 0]
    if not slower:
        return ratios[0][0]
    if slower[-1] == len(ratios) - 1:
        return None
    (n, below), (m, above) = ratios[slower[-1] : slower[-1] + 2]
    return round(n * (m / n) ** (-below / (above - below)))
