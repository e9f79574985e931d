"""`@kernel`: declares a function as the source of a kernel. Only files of `kernels/` import this, and Numba with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba.core.registry import CPUDispatcher
from numba.extending import register_jitable

from .compiler import OPTIONS
from .kernel import kernel_of

DECLARED = OPTIONS | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}

Function = TypeVar("Function", bound=Callable[..., Any])


class Source(CPUDispatcher):
    """A kernel's Python source. Other kernels call it where they are compiled; called from Python, it is the kernel."""

    def __call__(self, *arguments: Any) -> None:
        """Run the kernel."""
        kernel_of(self.py_func.__module__.rpartition(".")[2], self.py_func.__name__)(*arguments)


def kernel(function: Function) -> Function:
    """Declare a kernel: a function of arrays and numbers that never checks, allocates or prints.

    It is compiled at its first call for each combination of kinds of arguments; the result is kept on disk. For the
    type checker and an editor it stays the function that it is.
    """
    return cast(Function, Source(function, targetoptions=DECLARED))


def inlined(function: Function) -> Function:
    """Declare a part of kernels that becomes code of each: what is called for every row must not cost a call.

    LLVM leaves larger functions as they are: the exponentials of ten classes took 70 ns a row where they were called,
    and take 33 ns.
    """
    return cast(Function, Source(function, targetoptions=DECLARED | {"forceinline": True}))


# Declares a part of kernels that Numba copies into each of them before it infers types: its arguments may be functions,
# and a call does not count references to the arrays, as it would for every vector.
macro = register_jitable(inline="always")
