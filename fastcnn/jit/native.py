"""Machine code in this process: compiled from LLVM's intermediate representation, or read as it was compiled before."""

from __future__ import annotations

import atexit
import ctypes
import logging  # noqa: F401 -- before our lock, see there
import os
import threading
from _thread import start_new_thread
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar

from llvmlite import binding, ir

Result = TypeVar("Result")
WORD = ir.IntType(64)
WORDS = WORD.as_pointer()
OBJECT = ir.IntType(8).as_pointer()  # `PyObject *`
METH_O = 0x8  # the calling convention of functions with one argument

# Held while compiling or loading, always outside the locks of LLVM, Numba and logging. `fork` takes it first: a lock
# that another thread holds would stay locked in the child. Locks that are registered last are taken first: logging,
# which registers its own when it is imported, must come before.
lock = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)

_engines: list[Any] = []  # machine code lives as long as its engine
_methods: list[Any] = []  # Python's built-in functions refer to their definitions, which must stay
_undisturbed: set[Any] = set()  # a lock for each function that `undisturbed` runs at the moment


def undisturbed(function: Callable[[], Result]) -> Result:
    """Return what a function returns; it runs in a thread of its own, where Ctrl-C raises no exception.

    An exception in LLVM's calls back to Python aborts the process, one between two entries leaves half of them, and
    one in the binding of LLVM can leave its lock closed. Ctrl-C raises in the main thread, which only waits here. If
    that is interrupted, the function still runs to its end: it takes `lock`, so a second call waits for the first.
    """
    if threading.current_thread() is not threading.main_thread():
        return function()
    results: list[Result] = []
    errors: list[BaseException] = []
    done = threading.Lock()

    def run() -> None:
        _undisturbed.add(done)
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)
        finally:
            _undisturbed.discard(done)
            done.release()

    done.acquire()
    try:
        start_new_thread(run, ())
    except RuntimeError:  # the interpreter is closing
        return function()
    done.acquire()
    if errors:
        raise errors[0]
    return results[0]


def _wait() -> None:
    """Wait for the functions that still run, before the interpreter ends."""
    for done in list(_undisturbed):
        done.acquire()


atexit.register(_wait)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_undisturbed.clear)


@cache
def _initialize() -> None:
    """Initialise LLVM's code generator for this processor, once."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()


def _engine(module: Any) -> Any:
    """Return an engine for a module; optimising it would gain little, and cost much time."""
    machine = binding.Target.from_triple(binding.get_process_triple()).create_target_machine(opt=0)
    engine = binding.create_mcjit_compiler(module, machine)
    _engines.append(engine)
    return engine


def compile_module(module: ir.Module, *names: str) -> list[int]:
    """Return the addresses of functions of a module."""

    def compile_here() -> list[int]:
        with lock:
            _initialize()
            module.triple = binding.get_process_triple()
            engine = _engine(binding.parse_assembly(str(module)))
            engine.finalize_object()
            return [int(engine.get_function_address(name)) for name in names]

    return undisturbed(compile_here)


def load_object(code: bytes, name: str) -> int:
    """Return the address of a function of an object file.

    Raises
    ------
    LookupError
        If the file has no such function.
    """
    with lock:
        _initialize()
        engine = _engine(binding.parse_assembly(""))
        engine.add_object_file(binding.ObjectFileRef.from_data(code))
        engine.finalize_object()
        address = int(engine.get_function_address(name))
    if not address:
        raise LookupError(name)
    return address


def define(symbol: str, address: int) -> None:
    """Let machine code that is loaded later refer to this address by a name."""
    binding.add_symbol(symbol, address)


def is_known(symbol: str) -> bool:
    """Tell whether machine code that refers to this symbol can be loaded."""
    return binding.address_of_symbol(symbol) is not None


def emit_python(builder: ir.IRBuilder, name: str, result: ir.Type, arguments: Sequence[ir.Value] = ()) -> ir.Value:
    """Emit the call of a function of Python's C interface."""
    address = ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value
    function = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(builder.inttoptr(WORD(address), function.as_pointer()), arguments)


class _Method(ctypes.Structure):
    """Python's `PyMethodDef`."""

    _fields_ = (
        ("name", ctypes.c_char_p), ("code", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p),
    )  # fmt: skip


def python_function(name: str, address: int) -> Callable[[int], Callable[[Any], Any]]:
    """Return a factory of built-in functions from C code `PyObject *f(PyObject *self, PyObject *arg)`; self is an int.

    Python calls them in a tenth of the time that it takes to call by way of ctypes.
    """
    _methods.append(method := _Method(name.encode(), address, METH_O, None))
    interface = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
    make = interface(("PyCFunction_NewEx", ctypes.pythonapi))
    return lambda itself: make(ctypes.addressof(method), itself, None)
