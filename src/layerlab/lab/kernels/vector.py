"""SIMD vectors for numba: a value type ``<W x float>`` with loads, stores, arithmetic, exponential and sum.

numba leaves the choice of vectors to LLVM, which finds none in loops over a handful of features. Here a kernel says
what it wants, `load` by `load`, in ordinary numba code; LLVM lowers a vector to whatever the processor has (AVX, SSE,
NEON), so that widths need not fit the machine. Functions are generic in the width: pass a vector, get that width.

A vector lives in registers only. Offsets count elements of a contiguous array and are not checked, except under
NUMBA_BOUNDSCHECK=1, which makes a kernel that leaves an array raise IndexError (numba's own indexing, too).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.datamodel.models import PrimitiveModel
from numba.extending import intrinsic, register_model

from layerlab.lab.kernels.dealing import emitted
from layerlab.lab.kernels.jit import CHECKED

_LANE = ir.IntType(32)


class Vector(types.Type):
    """The numba type of ``width`` numbers of ``dtype`` (float32 or float64)."""

    def __init__(self, dtype: types.Float, width: int) -> None:
        self.dtype, self.width = dtype, width
        super().__init__(name=f"Vector({dtype}, {width})")


@register_model(Vector)
class _VectorModel(PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        lane = ir.FloatType() if kind.dtype.bitwidth == 32 else ir.DoubleType()
        super().__init__(manager, kind, ir.VectorType(lane, kind.width))


def _literal_intrinsic(define: Any) -> Any:
    return intrinsic(prefer_literal=True)(define)


def _bytes(vector: Any) -> int:
    return int(vector.dtype.bitwidth) // 8


def _splat(builder: Any, number: Any, kind: Any) -> Any:
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(_LANE, 0))
    lanes = ir.Constant(ir.VectorType(_LANE, kind.count), [0] * kind.count)
    return builder.shuffle_vector(first, undefined, lanes)


def _pointer(
    context: Any, builder: Any, array_type: Any, array: Any, offset: Any, kind: Any, count: Any = None
) -> Any:
    """Where a vector of ``kind`` begins; of its lanes the first ``count`` are used, all if None."""
    if array_type.layout != "C":
        raise TypeError(f"expected a contiguous array, got {array_type}")
    parts = context.make_array(array_type)(context, builder, array)
    if CHECKED:
        lanes = ir.Constant(parts.nitems.type, kind.count) if count is None else count
        room = builder.sub(parts.nitems, lanes)
        short = builder.icmp_signed("<", room, ir.Constant(room.type, 0))
        with builder.if_then(builder.or_(short, builder.icmp_unsigned(">", offset, room)), likely=False):
            context.call_conv.return_user_exc(builder, IndexError, ("a kernel left its array",))
    return builder.bitcast(builder.gep(parts.data, [offset]), kind.as_pointer())


@_literal_intrinsic
def zeros(typing: Any, array: Any, width: Any) -> Any:
    """A vector of ``width`` (a literal) zeros, of the array's dtype."""
    vector = Vector(array.dtype, width.literal_value)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(context.get_value_type(vector), [0.0] * vector.width)

    return vector(array, width), generate


@emitted
def load(typing: Any, like: Any, array: Any, offset: Any) -> Any:
    """``array.flat[offset : offset + W]``, W being the width of ``like``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.get_value_type(like)
        pointer = _pointer(context, builder, array, arguments[1], arguments[2], kind)
        return builder.load(pointer, align=_bytes(like))

    return like(like, array, types.uint64), generate


@emitted
def store(typing: Any, array: Any, offset: Any, vector: Any) -> Any:
    """``array.flat[offset : offset + W] = vector``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.get_value_type(vector)
        pointer = _pointer(context, builder, array, arguments[0], arguments[1], kind)
        builder.store(arguments[2], pointer, align=_bytes(vector))
        return context.get_dummy_value()

    return types.none(array, types.uint64, vector), generate


@emitted
def splat(typing: Any, like: Any, number: Any) -> Any:
    """The number in every lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _splat(builder, arguments[1], context.get_value_type(like))

    return like(like, like.dtype), generate


def _binary(operation: str) -> Any:
    def define(typing: Any, left: Any, right: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, operation)(*arguments, flags=["contract"])

        return left(left, left), generate

    define.__name__ = operation
    return emitted(define)


add, subtract, multiply, divide = (_binary(name) for name in ("fadd", "fsub", "fmul", "fdiv"))


@emitted
def larger(typing: Any, left: Any, right: Any) -> Any:
    """The larger number of each lane; a NaN on the left stays."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", *arguments), arguments[1], arguments[0])

    return left(left, left), generate


@emitted
def where_positive(typing: Any, condition: Any, yes: Any, no: Any) -> Any:
    """``yes`` in the lanes where ``condition`` is above 0 (or NaN, so that NaN goes on), else ``no``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        zero = ir.Constant(context.get_value_type(condition), [0.0] * condition.width)
        return builder.select(builder.fcmp_unordered(">", arguments[0], zero), arguments[1], arguments[2])

    return yes(condition, yes, yes), generate


@emitted
def kept(typing: Any, like: Any, words: Any, offset: Any, threshold: Any, scale: Any) -> Any:
    """``scale`` where the unsigned 32-bit random word is at least ``threshold``, else 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.get_value_type(like)
        integers = ir.VectorType(ir.IntType(32), like.width)
        pointer = _pointer(context, builder, words, arguments[1], arguments[2], integers)
        drawn = builder.load(pointer, align=4)
        keep = builder.icmp_unsigned(">=", drawn, _splat(builder, arguments[3], integers))
        zero = ir.Constant(kind, [0.0] * like.width)
        return builder.select(keep, _splat(builder, arguments[4], kind), zero)

    return like(like, words, types.uint64, types.uint32, like.dtype), generate


@emitted
def total(typing: Any, vector: Any) -> Any:
    """The sum over the lanes, added pairwise."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (value,) = arguments
        lanes = [builder.extract_element(value, ir.Constant(_LANE, i)) for i in range(vector.width)]
        if vector.width not in (2, 4, 8, 16):
            result = lanes[0]
            for lane in lanes[1:]:
                result = builder.fadd(result, lane)
            return result
        width = vector.width
        while width > 1:
            width //= 2
            undefined = ir.Constant(value.type, ir.Undefined)
            low, high = (
                builder.shuffle_vector(
                    value,
                    undefined,
                    ir.Constant(ir.VectorType(_LANE, width), list(range(start, start + width))),
                )
                for start in (0, width)
            )
            value = builder.fadd(low, high)
        return builder.extract_element(value, ir.Constant(_LANE, 0))

    return vector.dtype(vector), generate


# exp(r) = 1 + r + r^2 (1/2 + r (...)) for |r| <= ln(2) / 2: minimax coefficients of the bracket, error below 2^-26.
_EXPONENTIAL = (0.5, 1.6666654e-1, 4.1665796e-2, 8.3345935e-3, 1.3981999e-3, 1.9875691e-4)
_LOG2_E = 1.44269504088896341
# ln 2 in two parts, the first with trailing zeros: n * ln 2 is then exact to twice the precision.
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
_SMALLEST, _LARGEST = -87.3, 88.3  # beyond: 0 (below the normal numbers) and infinity


def _parts_of_exponential(builder: Any, x: Any) -> tuple[Any, Any]:
    """``(s, q)`` with s a power of 2 and ``exp(x) = s (1 + q)``, for a vector of float32 within the limits."""
    kind = x.type
    integers = ir.VectorType(ir.IntType(32), kind.count)

    def constant(number: float) -> Any:
        return ir.Constant(kind, [number] * kind.count)

    def fused(a: Any, b: Any, c: Any) -> Any:
        return builder.fadd(builder.fmul(a, b, flags=["contract"]), c, flags=["contract"])

    # Adding and taking away 1.5 * 2^23 rounds to the nearest integer.
    magic = constant(12582912.0)
    n = builder.fsub(builder.fadd(builder.fmul(x, constant(_LOG2_E)), magic), magic)
    r = fused(n, constant(-_LN2_HIGH), x)
    r = fused(n, constant(-_LN2_LOW), r)
    bracket = constant(_EXPONENTIAL[-1])
    for coefficient in reversed(_EXPONENTIAL[:-1]):
        bracket = fused(bracket, r, constant(coefficient))
    q = fused(builder.fmul(r, r), bracket, r)
    whole = builder.fptosi(n, integers)
    exponent = builder.add(whole, ir.Constant(integers, [127] * kind.count))
    shift = ir.Constant(integers, [23] * kind.count)
    return builder.bitcast(builder.shl(exponent, shift), kind), q


def _lane_by_lane(context: Any, builder: Any, vector: Any, x: Any, minus_one: bool) -> Any:
    """float64 has no short polynomial; it is there for exactness, and calls the C library."""
    lane_type = context.get_value_type(vector.dtype)
    name = "expm1" if minus_one else "exp"
    function = builder.module.globals.get(name) or ir.Function(
        builder.module, ir.FunctionType(lane_type, [lane_type]), name
    )
    out = ir.Constant(x.type, ir.Undefined)
    for i in range(vector.width):
        place = ir.Constant(_LANE, i)
        out = builder.insert_element(out, builder.call(function, [builder.extract_element(x, place)]), place)
    return out


@emitted
def exponential(typing: Any, vector: Any) -> Any:
    """``exp(x)`` for x <= 88.3; float32 to 2 units in the last place, with 0 below -87.3."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (x,) = arguments
        if vector.dtype.bitwidth == 64:
            return _lane_by_lane(context, builder, vector, x, minus_one=False)
        least = ir.Constant(x.type, [_SMALLEST] * vector.width)
        tiny = builder.fcmp_ordered("<", x, least)
        power, q = _parts_of_exponential(builder, builder.select(tiny, least, x))
        out = builder.fadd(power, builder.fmul(power, q, flags=["contract"]), flags=["contract"])
        return builder.select(tiny, ir.Constant(x.type, [0.0] * vector.width), out)

    return vector(vector), generate


@emitted
def exponential_minus_one(typing: Any, vector: Any) -> Any:
    """``exp(x) - 1`` for x <= 0, precise where x is small; what x > 0 gives is finite and meaningless."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (x,) = arguments
        least, zero, one = (ir.Constant(x.type, [c] * vector.width) for c in (_SMALLEST, 0.0, 1.0))
        x = builder.select(builder.fcmp_ordered(">", x, zero), zero, x)
        if vector.dtype.bitwidth == 64:
            return _lane_by_lane(context, builder, vector, x, minus_one=True)
        x = builder.select(builder.fcmp_ordered("<", x, least), least, x)
        power, q = _parts_of_exponential(builder, x)
        return builder.fadd(builder.fsub(power, one), builder.fmul(power, q))

    return vector(vector), generate


@emitted
def load_first(typing: Any, like: Any, array: Any, offset: Any, count: Any) -> Any:
    """As `load`, but of the first ``count`` lanes only, with 0 in the others; nothing behind them is touched."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.get_value_type(like)
        pointer = _pointer(context, builder, array, arguments[1], arguments[2], kind, arguments[3])
        mask = _first(builder, arguments[3], like.width)
        suffix = f"v{like.width}f{like.dtype.bitwidth}.p0"
        function = _declared(
            builder, f"llvm.masked.load.{suffix}", kind, [pointer.type, _LANE, mask.type, kind]
        )
        zero = ir.Constant(kind, [0.0] * like.width)
        return builder.call(function, [pointer, ir.Constant(_LANE, _bytes(like)), mask, zero])

    return like(like, array, types.uint64, types.uint64), generate


@emitted
def store_first(typing: Any, array: Any, offset: Any, vector: Any, count: Any) -> Any:
    """As `store`, but of the first ``count`` lanes only."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.get_value_type(vector)
        pointer = _pointer(context, builder, array, arguments[0], arguments[1], kind, arguments[3])
        mask = _first(builder, arguments[3], vector.width)
        suffix = f"v{vector.width}f{vector.dtype.bitwidth}.p0"
        function = _declared(
            builder,
            f"llvm.masked.store.{suffix}",
            ir.VoidType(),
            [kind, pointer.type, _LANE, mask.type],
        )
        builder.call(function, [arguments[2], pointer, ir.Constant(_LANE, _bytes(vector)), mask])
        return context.get_dummy_value()

    return types.none(array, types.uint64, vector, types.uint64), generate


def _declared(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    return builder.module.globals.get(name) or ir.Function(
        builder.module, ir.FunctionType(result, arguments), name
    )


def _first(builder: Any, count: Any, width: int) -> Any:
    """The mask of the first ``count`` of ``width`` lanes."""
    integers = ir.VectorType(_LANE, width)
    number = _splat(builder, builder.trunc(count, _LANE), integers)
    return builder.icmp_unsigned("<", ir.Constant(integers, list(range(width))), number)


@emitted
def totals(typing: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any) -> Any:
    """The sums over the lanes of eight vectors of 8, side by side, in 21 operations instead of 8 times 6."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def pick(x: Any, y: Any, lanes: list[int]) -> Any:
            return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(_LANE, 8), lanes))

        def halved(x: Any, y: Any, low: list[int], high: list[int]) -> Any:
            return builder.fadd(pick(x, y, low), pick(x, y, high))

        # Shuffles stay within the halves of a vector until the last step, where processors have the fast ones.
        pairs = [
            halved(x, y, [0, 2, 8, 10, 4, 6, 12, 14], [1, 3, 9, 11, 5, 7, 13, 15])
            for x, y in zip(arguments[::2], arguments[1::2], strict=True)
        ]
        fours = [
            halved(x, y, [0, 2, 8, 10, 4, 6, 12, 14], [1, 3, 9, 11, 5, 7, 13, 15])
            for x, y in zip(pairs[::2], pairs[1::2], strict=True)
        ]
        return halved(fours[0], fours[1], [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15])

    return a(a, a, a, a, a, a, a, a), generate


@emitted
def kept_bits(typing: Any, like: Any, words: Any, offset: Any, threshold: Any) -> Any:
    """One bit a lane (8 at most): whether the lane's random word is at least ``threshold``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        integers = ir.VectorType(_LANE, like.width)
        pointer = _pointer(context, builder, words, arguments[1], arguments[2], integers)
        drawn = builder.load(pointer, align=4)
        keep = builder.icmp_unsigned(">=", drawn, _splat(builder, arguments[3], integers))
        return builder.zext(builder.bitcast(keep, ir.IntType(like.width)), ir.IntType(64))

    return types.uint64(like, words, types.uint64, types.uint32), generate


@emitted
def where_bits(typing: Any, vector: Any, bits: Any) -> Any:
    """The lanes whose bit is set, 0 in the others."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        width = ir.IntType(vector.width)
        keep = builder.bitcast(builder.trunc(arguments[1], width), ir.VectorType(ir.IntType(1), vector.width))
        zero = ir.Constant(arguments[0].type, [0.0] * vector.width)
        return builder.select(keep, arguments[0], zero)

    return vector(vector, types.uint64), generate


@emitted
def prefetch(typing: Any, array: Any, offset: Any) -> Any:
    """Ask for the cache line of ``array.flat[offset]``; nothing happens where that is outside."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(array)(context, builder, arguments[0]).data
        pointer = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        function = _declared(builder, "llvm.prefetch.p0", ir.VoidType(), [pointer.type, _LANE, _LANE, _LANE])
        # To be read, and kept close, as data.
        builder.call(function, [pointer, *(ir.Constant(_LANE, c) for c in (0, 3, 1))])
        return context.get_dummy_value()

    return types.none(array, types.uint64), generate


# Three exchanges of neighbours, of pairs and of halves turn 8 rows of 8 numbers into its columns.
_EXCHANGES = (
    ((0, 8, 1, 9, 4, 12, 5, 13), (2, 10, 3, 11, 6, 14, 7, 15)),
    ((0, 1, 8, 9, 4, 5, 12, 13), (2, 3, 10, 11, 6, 7, 14, 15)),
    ((0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15)),
)


@emitted
def transpose_block(
    typing: Any, like: Any, x: Any, start: Any, stride: Any, out: Any, begin: Any, step: Any
) -> Any:
    """``out.flat[begin + j step + i] = x.flat[start + i stride + j]`` for i, j < 8; ``like`` has width 8."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.get_value_type(like)
        _, source, start_at, stride_of, target, begin_at, step_of = arguments

        def place(array: Any, value: Any, first: Any, distance: Any, number: int) -> Any:
            offset = builder.add(first, builder.mul(distance, ir.Constant(distance.type, number)))
            return _pointer(context, builder, array, value, offset, kind)

        rows = [builder.load(place(x, source, start_at, stride_of, i), align=_bytes(like)) for i in range(8)]
        for (low, high), distance in zip(_EXCHANGES, (1, 2, 4), strict=True):
            masks = [ir.Constant(ir.VectorType(_LANE, 8), list(mask)) for mask in (low, high)]
            following: list[Any] = [None] * 8
            for i in range(8):
                if i & distance:
                    continue
                for mask, at in zip(masks, (i, i + distance), strict=True):
                    following[at] = builder.shuffle_vector(rows[i], rows[i + distance], mask)
            rows = following
        # They leave the columns in this order.
        for row, column in zip(rows, (0, 2, 1, 3, 4, 6, 5, 7), strict=True):
            builder.store(row, place(out, target, begin_at, step_of, column), align=_bytes(like))
        return context.get_dummy_value()

    index = types.uint64
    return types.none(like, x, index, index, out, index, index), generate
