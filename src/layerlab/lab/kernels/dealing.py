"""Compiled code that deals a kernel's parts to the threads of an OpenMP library, without Python in between.

`deal` writes into the caller's machine code what a compiler writes for ``#pragma omp parallel``: a function that takes
parts until none is left, its arguments in a struct, and a call of libgomp's ``GOMP_parallel``, whose address is given
at run time. So nothing is linked, compiled code is kept between processes, and where there is no such library the same
code runs the parts one after the other.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np import arrayobj

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_POINTER = ir.IntType(8).as_pointer()
_PART = ir.FunctionType(ir.VoidType(), [_POINTER])
# void GOMP_parallel(void (*function)(void *), void *data, unsigned threads, unsigned flags)
_PARALLEL = ir.FunctionType(ir.VoidType(), [_PART.as_pointer(), _POINTER, _I32, _I32])


def emitted(define: Any) -> Any:
    """numba's `intrinsic`, for a type checker that cannot know that numba supplies the first argument."""
    return intrinsic(define)


@emitted
def deal(typing_context: Any, kernel: Any, arguments: Any, cuts: Any, parallel: Any) -> Any:
    """``kernel(*arguments, cuts[i], cuts[i + 1])`` for every i, on as many threads as there are parts.

    Args:
        kernel: a compiled function that returns nothing and raises nothing.
        arguments: a tuple.
        cuts: int64 array.
        parallel: address of ``GOMP_parallel``; 0 runs the parts one after the other.
    """
    given = (*arguments.types, types.int64, types.int64)
    kernel.get_call_type(typing_context, given, {})
    compiled = kernel.dispatcher.overloads[given]

    def emit(context: Any, builder: Any, _: Any, values: Any) -> Any:
        _, tuple_, cuts_, address = values
        context.active_code_library.add_linking_library(compiled.library)
        callee = context.declare_function(builder.module, compiled.fndesc)
        packer = context.get_arg_packer(arguments.types)
        flat = list(packer.as_arguments(builder, cgutils.unpack_tuple(builder, tuple_)))
        bounds = arrayobj.make_array(cuts)(context, builder, cuts_)
        parts = builder.sub(bounds.nitems, _I64(1))
        # Next part, parts, where they are cut, whether one has failed, and the arguments.
        head = [_I64(0), parts, bounds.data, _I32(0)]
        struct = ir.LiteralStructType([value.type for value in (*head, *flat)])
        data = cgutils.alloca_once(builder, struct)
        for i, value in enumerate((*head, *flat)):
            builder.store(value, cgutils.gep_inbounds(builder, data, 0, i))
        run = _runner(builder.module, callee, struct, len(head))
        argument = builder.bitcast(data, _POINTER)
        alone = builder.or_(
            builder.icmp_signed("==", address, _I64(0)), builder.icmp_signed("<=", parts, _I64(1))
        )
        with builder.if_else(alone) as (then, otherwise):
            with then:
                builder.call(run, [argument])
            with otherwise:
                library = builder.inttoptr(address, _PARALLEL.as_pointer())
                builder.call(library, [run, argument, builder.trunc(parts, _I32), _I32(0)])
        failed = builder.load(cgutils.gep_inbounds(builder, data, 0, 3))
        with builder.if_then(builder.icmp_signed("!=", failed, _I32(0)), likely=False):
            context.call_conv.return_user_exc(builder, RuntimeError, ("a kernel failed",))
        return context.get_dummy_value()

    return types.void(kernel, arguments, cuts, types.int64), emit


def _runner(module: Any, callee: Any, struct: Any, first: int) -> Any:
    """The function that every thread runs: takes parts until none is left."""
    function = ir.Function(module, _PART, module.get_unique_name("layerlab_parts"))
    function.linkage = "internal"
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    data = builder.bitcast(function.args[0], struct.as_pointer())

    def field(i: int) -> Any:
        return cgutils.gep_inbounds(builder, data, 0, i)

    parts, bounds = builder.load(field(1)), builder.load(field(2))
    flat = [builder.load(field(i)) for i in range(first, len(struct.elements))]
    # What numba's calling convention asks for beside the arguments: room for a result and for an exception.
    rooms = [builder.alloca(kind.pointee) for kind in callee.function_type.args[:2]]
    take, work, end = (function.append_basic_block(name) for name in ("take", "work", "end"))
    builder.branch(take)
    builder.position_at_end(take)
    part = builder.atomic_rmw("add", field(0), _I64(1), "monotonic")
    builder.cbranch(builder.icmp_signed("<", part, parts), work, end)
    builder.position_at_end(work)
    cut = [builder.load(builder.gep(bounds, [builder.add(part, _I64(i))])) for i in range(2)]
    status = builder.call(callee, [*rooms, *flat, *cut])
    builder.atomic_rmw("or", field(3), status, "monotonic")
    builder.branch(take)
    builder.position_at_end(end)
    builder.ret_void()
    return function
