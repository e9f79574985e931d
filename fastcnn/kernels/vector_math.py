"""Functions of vectors: exp to one unit in the last place, tanh and the logistic function to three, Φ to seven.

They are branch-free polynomials, written once for both precisions. Ranges are reduced as by Cody and Waite, "Software
manual for the elementary functions", 1980; the coefficients are interpolations at Chebyshev nodes, computed with 50
digits. Results below the smallest normal number become zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

from .vector import Vector, emit_call


class Value:
    """A vector of a kernel that is being compiled: arithmetic on it emits instructions."""

    def __init__(self, builder: ir.IRBuilder, vector: Vector, value: Any) -> None:
        self.builder, self.vector, self.value = builder, vector, value

    def like(self, value: Any) -> Value:
        """Return another vector of the kernel."""
        return Value(self.builder, self.vector, value)

    def of(self, x: Value | float) -> Any:
        """Return the LLVM value of a vector, or of a constant in all lanes."""
        return x.value if isinstance(x, Value) else ir.Constant(self.vector.ir, [float(x)] * self.vector.lanes)

    def either(self, single: Any, double: Any) -> Any:
        """Return what belongs to the precision."""
        return single if self.vector.itemsize == 4 else double

    def __add__(self, y: Value | float) -> Value:
        return self.like(self.builder.fadd(self.value, self.of(y)))

    def __sub__(self, y: Value | float) -> Value:
        return self.like(self.builder.fsub(self.value, self.of(y)))

    def __rsub__(self, x: float) -> Value:
        return self.like(self.builder.fsub(self.of(x), self.value))

    def __mul__(self, y: Value | float) -> Value:
        return self.like(self.builder.fmul(self.value, self.of(y)))

    def __truediv__(self, y: Value) -> Value:
        return self.like(self.builder.fdiv(self.value, y.value))

    def __rtruediv__(self, x: float) -> Value:
        return self.like(self.builder.fdiv(self.of(x), self.value))

    def call(self, name: str, *values: Value | float) -> Value:
        """Call the LLVM intrinsic `name` of this vector and the `values`."""
        return self.like(emit_call(self.builder, self.vector, name, [self.value, *map(self.of, values)]))

    def fma(self, y: Value | float, z: Value | float) -> Value:
        """Return self · y + z."""
        return self.call("fmuladd", y, z)

    def where(self, comparison: str, bound: Value | float, x: Value | float, y: Value | float) -> Value:
        """Return x where the comparison holds, y elsewhere and where there is a NaN."""
        holds = self.builder.fcmp_ordered(comparison, self.value, self.of(bound))
        return self.like(self.builder.select(holds, self.of(x), self.of(y)))

    def polynomial(self, coefficients: Sequence[float]) -> Value:
        """Return Σ_k c_k · self^k, by Horner's rule."""
        *rest, last = coefficients
        total: Value | float = last
        for c in reversed(rest):
            total = self.fma(total, c)
        assert isinstance(total, Value)
        return total


def _bits(x: Value) -> Any:
    return x.builder.bitcast(x.value, ir.VectorType(ir.IntType(8 * x.vector.itemsize), x.vector.lanes))


def _scaled(p: Value, turns: Value) -> Value:
    """Return p · 2^n by adding n to the exponent; the low bits of `turns` hold n."""
    exponent = ir.Constant(_bits(p).type, [p.either(23, 52)] * p.vector.lanes)
    bits = p.builder.add(_bits(p), p.builder.shl(_bits(turns), exponent))
    return p.like(p.builder.bitcast(bits, p.vector.ir))


LOG2_E = 1.4426950408889634
# ln 2 in two parts; the first has so few digits that its product with n is exact, with or without a fused multiply-add.
LN_2 = ((0.693359375, -2.12194440e-4), (0.69314718036912382, 1.9082149292705877e-10))
# 1.5 · 2^23 and 1.5 · 2^52: what is added to it is rounded to a whole number, which then stands in the low bits.
ROUND = (12582912.0, 6755399441055744.0)
# (e^r - 1 - r) / r² for |r| <= ln 2 / 2.
EXP = (
    (0.5, 0.16666576989698775, 0.041666554617204574, 0.008363179052722578, 0.0013926183587713494),
    (
        0.5, 0.16666666666666669, 0.04166666666662413, 0.008333333333330062, 0.0013888888917213717,
        0.00019841269863053618, 2.4801521295954376e-05, 2.7557268459997064e-06, 2.7620088445409746e-07,
        2.510038549551032e-08,
    ),
)  # fmt: skip


def _reduced(x: Value) -> tuple[Value, Value]:
    """Return e^r - 1 and n for x = n · ln 2 + r, n in the low bits of its vector."""
    turns = x.fma(LOG2_E, x.either(*ROUND))
    n, (high, low) = turns - x.either(*ROUND), x.either(*LN_2)
    r = n.fma(-low, n.fma(-high, x))
    return r.polynomial(x.either(*EXP)).fma(r * r, r), turns


def _exp(x: Value) -> Value:
    grown, turns = _reduced(x)
    y = _scaled(grown + 1.0, turns)
    y = x.where("<", x.either(-87.3, -708.39), 0.0, y)  # where 2^n is still normal
    y = x.where(">", x.either(88.72283935546875, 709.782712893384), float("inf"), y)
    return x.where("ord", x, y, x)


def _expm1_negative(x: Value) -> Value:
    x = x.where("<", x.either(-20.0, -40.0), x.either(-20.0, -40.0), x)
    grown, turns = _reduced(x)
    power = _scaled(x.like(x.of(1.0)), turns)
    return power.fma(grown, power - 1.0)


def _tanh(x: Value) -> Value:
    t = _expm1_negative(x.call("fabs") * -2.0)
    return (t / (-2.0 - t)).call("copysign", x)


def _logistic(x: Value) -> Value:
    e = _exp(x.call("fabs") * -1.0)
    return x.where("<", 0.0, e, 1.0) / (e + 1.0)


def _logistic_slope(x: Value) -> Value:
    e = _exp(x.call("fabs") * -1.0)
    d = 1.0 / (e + 1.0)
    return e * d * d


def _normal_density(x: Value) -> Value:
    return _half_square_exp(x) * 0.3989422804014327


def _half_square_exp(x: Value) -> Value:
    """Return e^(-x²/2); what the square's rounding has lost is made good, where there is a fused multiply-add."""
    x = x.call("fabs")
    x = x.where(">", 50.0, 50.0, x)
    square = x * x
    e = _exp(square * -0.5)
    return e.fma(x.fma(x, square * -1.0) * -0.5, e)


# (x + k) · Φ(-x) · e^(x²/2) as a polynomial in t = (x - k) / (x + k), for all x >= 0; t runs from -1 to 1. The mapping
# is that of Shepherd and Laframboise, "Chebyshev approximation of (1 + 2x) exp(x²) erfc x", Math. Comp. 36, 1981.
TAIL_K = (4.0, 5.0)
TAIL = (
    (
        0.7552851304157515, -0.6078966310048657, 0.38713740116959894, -0.1865221669841296, 0.06039656262041475,
        -0.007537677477381823, -0.0034795880075690136, 0.0016219499527395963, 0.00013294462932231634,
        -0.00021548404675400255, -1.0999025946389317e-06, 2.1150477549818113e-05, -2.1070768564897833e-07,
    ),
    (
        0.769193049750063, -0.6653825028900577, 0.4953056159699768, -0.3135331566712138, 0.16502036617034282,
        -0.06911863870881432, 0.020795066800941616, -0.00299337673822322, -0.0007978694094808063,
        0.00054489883090093, -5.9375673286488655e-05, -4.976177118979218e-05, 1.6681099115863468e-05,
        3.977912640593242e-06, -2.769337871043854e-06, -3.310698071526862e-07, 4.340262594829775e-07,
        3.581840051543223e-08, -6.782555313291156e-08, -5.015649939857857e-09, 9.446827519677366e-09,
        5.037302126379857e-10, -8.166192624428987e-10,
    ),
)  # fmt: skip


def _normal_distribution(x: Value) -> Value:
    k = x.either(*TAIL_K)
    d = 1.0 / (x.call("fabs") + k)
    t = d.fma(-2.0 * k, 1.0)
    tail = _half_square_exp(x) * t.polynomial(x.either(*TAIL)) * d
    return x.where("<", 0.0, tail, 1.0 - tail)


def _where_positive(x: Value, y: Value, z: Value) -> Value:
    return x.where(">", 0.0, y, z)


def _clamp(x: Value, low: Value, high: Value) -> Value:
    x = x.where("<", low, low, x)
    return x.where(">", high, high, x)


def _function(emit: Callable[[Value], Value], formula: str) -> Any:
    """Return an intrinsic of one vector."""

    def typed(typingctx: Any, x: Any) -> Any:
        return x(x), lambda context, builder, signature, arguments: emit(Value(builder, x, arguments[0])).value

    typed.__name__, typed.__doc__ = emit.__name__.strip("_"), formula
    return intrinsic(typed)


def _function_of_three(emit: Callable[[Value, Value, Value], Value], formula: str) -> Any:
    """Return an intrinsic of three vectors."""

    def typed(typingctx: Any, x: Any, y: Any, z: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            return emit(*(Value(builder, x, argument) for argument in arguments)).value

        return x(x, x, x), codegen

    typed.__name__, typed.__doc__ = emit.__name__.strip("_"), formula
    return intrinsic(typed)


exp = _function(_exp, "Return e^x.")
expm1_negative = _function(_expm1_negative, "Return e^x - 1 for x <= 0, exact near 0.")
tanh = _function(_tanh, "Return tanh(x).")
logistic = _function(_logistic, "Return 1 / (1 + e^-x).")
logistic_slope = _function(_logistic_slope, "Return the derivative of `logistic`.")
normal_density = _function(_normal_density, "Return e^(-x²/2) / √(2π).")
normal_distribution = _function(_normal_distribution, "Return Φ(x), exact in the lower tail too: erfc(-x/√2) / 2.")
where_positive = _function_of_three(_where_positive, "Return y where x > 0, z elsewhere.")
clamp = _function_of_three(_clamp, "Return x, between y and z; a NaN stays.")
