"""Kernels become machine code of 64-bit Arm too: LLVM compiles here what a training step calls there."""

from tests.processes import run_python

PROGRAM = r"""
import importlib
import re

import llvmlite.binding as llvm
from numba.core.codegen import CPUCodeLibrary

llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()
TRIPLE = "aarch64-unknown-linux-gnu"
machine = llvm.Target.from_triple(TRIPLE).create_target_machine(cpu="cortex-a72", opt=2)
modules = []


def for_arm(library):
    # The module as Numba has it for this processor: without its name for the target, and without the target's features.
    text = re.sub(r'"target-(cpu|features)"="[^"]*"', "", str(library._final_module))
    text = re.sub(r"^target (triple|datalayout) = .*$", "", text, flags=re.MULTILINE)
    assert "llvm.x86" not in text
    module = llvm.parse_assembly(text)
    module.triple, module.data_layout = TRIPLE, str(machine.target_data)
    module.verify()
    modules.append(module)
    return machine.emit_object(module)


CPUCodeLibrary._get_compiled_object = for_arm

from fastcnn import Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sequential
from fastcnn.jit.compiler import compile_kernel
from fastcnn.rehearsals import rehearse_networks

layers = [Conv2D(16, 3), ReLU(), MaxPool2D(2), Flatten(), Dense(10)]
needed = rehearse_networks([Sequential(layers).build((1, 8, 8), random_state=0)]).needed
for kernel, kinds in needed:
    source = getattr(importlib.import_module(f"fastcnn.kernels.{kernel.family}"), kernel.name)
    code = compile_kernel(source, kinds).code
    assert code[:4] == b"\x7fELF" and code[18:20] == b"\xb7\x00", code[:20]  # EM_AARCH64
names = {kernel.name for kernel, _ in needed}
assert {"forward_pool", "filter_gradient_pool", "gradient_product", "softmax_cross_entropy"} < names, names
# Fused multiply-adds of four lanes, a whole register of Arm's.
assert any(re.search(r"\bfmla\s+v\d+\.4s", machine.emit_assembly(module)) for module in modules)
print(len(needed))
"""


def test_the_kernels_of_a_step_are_compiled_for_arm():
    """In a process with Arm's vector set, for that processor alone: nothing is called, and nothing kept on disk."""
    made = run_python(PROGRAM, FASTCNN_SIMD="neon")
    assert int(made) >= 8  # of the convolution, the dense layer, the loss, the update
