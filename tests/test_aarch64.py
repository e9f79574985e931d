"""Kernels become machine code of 64-bit Arm too: LLVM compiles here what a training step calls there."""

from tests.processes import run_python

PROGRAM = r"""
import re

import llvmlite.binding as llvm
import numpy as np
from numba.core.codegen import CPUCodeLibrary

llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()
TRIPLE = "aarch64-unknown-linux-gnu"
machine = llvm.Target.from_triple(TRIPLE).create_target_machine(cpu="cortex-a72", opt=2)
compiled = CPUCodeLibrary._get_compiled_object
made = []


def both(library):
    # The module as Numba has it for this processor: without its name for the target, and without the target's features.
    text = re.sub(r'"target-(cpu|features)"="[^"]*"', "", str(library._final_module))
    text = re.sub(r"^target (triple|datalayout) = .*$", "", text, flags=re.MULTILINE)
    module = llvm.parse_assembly(text)
    module.triple, module.data_layout = TRIPLE, str(machine.target_data)
    module.verify()
    made.append((machine.emit_object(module), machine.emit_assembly(module)))
    return compiled(library)


CPUCodeLibrary._get_compiled_object = both

from fastcnn.jit import ahead

ahead._can_help = lambda: False  # all in this process

from fastcnn import Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sequential, Trainer

model = Sequential([Conv2D(16, 3), ReLU(), MaxPool2D(2), Flatten(), Dense(10)])
loss = Trainer(model, random_state=0).step(np.ones((4, 1, 8, 8), "float32"), [0, 1, 2, 3])
assert np.isfinite(loss)
for code, assembly in made:
    assert code[:4] == b"\x7fELF" and code[18:20] == b"\xb7\x00", code[:20]  # EM_AARCH64
    assert not re.search(r"llvm\.x86", assembly)
# Fused multiply-adds of four lanes, a whole register of Arm's.
assert any(re.search(r"\bfmla\s+v\d+\.4s", assembly) for _, assembly in made)
print(len(made))
"""


def test_the_kernels_of_a_step_are_compiled_for_arm(tmp_path):
    """In a process with Arm's vector set, and no kernels from disk."""
    made = run_python(PROGRAM, FASTCNN_SIMD="neon", FASTCNN_CACHE_DIR=str(tmp_path))
    assert int(made) >= 8  # of the convolution, the dense layer, the loss, the update
