"""borrowed, noted, recalled: tuples of arrays in compiled code without an owner.

numba counts the references of every array that is handed on, and takes every array that comes from Python apart: 0.15
microseconds each. Both cost more than a cut of a tree. A borrowed array is good for as long as somebody else keeps it.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

WORDS = 128  # room for what `noted` writes of some ten arrays


@intrinsic  # type: ignore[untyped-decorator]
def borrowed(_typing: Any, arrays: Any) -> Any:
    """The same tuple of arrays without an owner: no view of them has its references counted.

    For a function's arguments, not for what it makes itself, which is let go after its last use by name; nothing made
    of them may leave the function.
    """

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _unowned(context, builder, signature.args[0], arguments[0])

    return arrays(arrays), emit


@intrinsic  # type: ignore[untyped-decorator]
def noted(_typing: Any, arrays: Any, note: Any) -> Any:
    """Writes down where a tuple of arrays lies, at an address with room for WORDS int64."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = _unowned(context, builder, signature.args[0], arguments[0])
        if context.get_abi_sizeof(value.type) > 8 * WORDS:
            raise ValueError(f"{signature.args[0]} takes more than {WORDS} words")
        builder.store(value, builder.inttoptr(arguments[1], value.type.as_pointer()), align=8)
        return context.get_dummy_value()

    return types.void(arrays, types.int64), emit


def recalled(kind: Any) -> Any:
    """A compiled function from an address to the tuple, of the numba type `kind`, that `noted` wrote there."""

    @intrinsic  # type: ignore[untyped-decorator]
    def recall(_typing: Any, note: Any) -> Any:
        def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            place = builder.inttoptr(arguments[0], context.get_value_type(kind).as_pointer())
            return builder.load(place, align=8)

        return kind(types.int64), emit

    return recall


def _unowned(context: Any, builder: Any, kind: Any, whole: Any) -> Any:
    for place, each in enumerate(kind.types):
        array = context.make_array(each)(context, builder, builder.extract_value(whole, place))
        array.meminfo, array.parent = (cgutils.get_null_value(owner.type) for owner in (array.meminfo, array.parent))
        whole = builder.insert_value(whole, array._getvalue(), place)
    return whole
