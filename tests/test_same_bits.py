"""One seed gives one set of bits for registers of any length; `test_digests.py` has other threads and processes."""

from __future__ import annotations

import json

from fastcnn.jit.target import SETS, vector_set
from tests.processes import finish, start_python
from tests.same_bits import digests

CODE = "import json; from tests.same_bits import digests; print(json.dumps(digests()))"
LIMIT = 600  # seconds: all kernels may have to be compiled
WIDTHS = ("sse", "avx2", "avx512")  # sse with fused multiply-adds, where the processor has them


def test_registers_of_any_length_give_the_same_bits():
    """Of 4, 8 and 16 lanes: longer ones than the processor has are several of its own."""
    others = [name for name in WIDTHS if SETS[name] is not vector_set()]
    started = {name: start_python(CODE, FASTCNN_SIMD=name) for name in others}
    here = digests()
    for name, process in started.items():
        assert json.loads(finish(process, LIMIT)) == here, name
