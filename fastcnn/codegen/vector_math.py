"""Functions of vectors: exp to one unit in the last place, tanh and the logistic function to three.

They are branch-free polynomials, written once for both precisions. Ranges are reduced as by Cody and Waite, "Software
manual for the elementary functions", 1980; the coefficients are interpolations at Chebyshev nodes, computed with 50
digits, or fitted for the least relative error. Every term counts: in single precision what is computed here, and not
memory, is the bound of most activations. Results below the smallest normal number become zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

from .vector import Vector, emit_call, emit_splat, vector_intrinsic

GATE = 80.0  # e^GATE and its products with what is no larger are finite


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

    def at_least(self, bound: Value | float) -> Value:
        """Return the larger of the two; a NaN stays."""
        return self.where("<", bound, bound, self)

    def at_most(self, bound: Value | float) -> Value:
        """Return the smaller of the two; a NaN stays."""
        return self.where(">", bound, bound, self)

    def polynomial(self, coefficients: Sequence[float]) -> Value:
        """Return Σ_k c_k · self^k: even and odd powers by themselves, each by Horner's rule, for less waiting."""
        square = self * self
        even, odd = (square.horner(coefficients[first::2]) for first in (0, 1))
        return self.fma(odd, even)

    def horner(self, coefficients: Sequence[float]) -> Value:
        """Return Σ_k c_k · self^k, by Horner's rule."""
        *rest, first, last = coefficients
        total = self + first if last == 1 else self.fma(last, first)
        for c in reversed(rest):
            total = self.fma(total, c)
        return total


def _bits(x: Value) -> Any:
    return x.builder.bitcast(x.value, ir.VectorType(ir.IntType(8 * x.vector.itemsize), x.vector.lanes))


def _power(shifted: Value) -> Value:
    """Return 2^n from n in the low bits of `shifted`: zero at the lowest n, infinite at the highest."""
    digits = ir.Constant(_bits(shifted).type, [shifted.either(23, 52)] * shifted.vector.lanes)
    return shifted.like(shifted.builder.bitcast(shifted.builder.shl(_bits(shifted), digits), shifted.vector.ir))


LOG2_E = 1.4426950408889634
# ln 2 in two parts; the first has so few digits that its product with n is exact, with or without a fused multiply-add.
LN_2_ROUNDED = 0.6931471805599453
LN_2 = ((0.693359375, -2.12194440e-4), (0.69314718036912382, 1.9082149292705877e-10))
# 1.5 · 2^23 and 1.5 · 2^52: what is added to it is rounded to a whole number, which is then in the low bits. The
# bias of an exponent is added here, so that they are the exponent of 2^n.
ROUND = (12582912.0 + 127, 6755399441055744.0 + 1023)
# Where that power is zero, n = -127 and -1023, and where it is infinite, n = 128 and 1024: well between two halves. A
# NaN goes through all that follows.
FLUSHED, OVERFLOWN = (-88.0, -709.1), (88.9, 709.8)
# (e^r - 1 - r) / r² for |r| <= ln 2 / 2.
EXP = (
    (0.5, 0.16666576989698775, 0.041666554617204574, 0.008363179052722578, 0.0013926183587713494),
    (
        0.5, 0.16666666666666669, 0.04166666666662413, 0.008333333333330062, 0.0013888888917213717,
        0.00019841269863053618, 2.4801521295954376e-05, 2.7557268459997064e-06, 2.7620088445409746e-07,
        2.510038549551032e-08,
    ),
)  # fmt: skip


def _nearest(x: Value) -> tuple[Value, Value]:
    """Return the whole n nearest to x / ln 2, as a number, and shifted, in the low bits, as `_power` takes it."""
    shifted = x.fma(LOG2_E, x.either(*ROUND))
    return shifted - x.either(*ROUND), shifted


def _expm1_reduced(r: Value) -> Value:
    """Return e^r - 1 for |r| <= ln 2 / 2."""
    return r.polynomial(r.either(*EXP)).fma(r * r, r)


def _split(x: Value) -> tuple[Value, Value]:
    """Return r and 2^n for x = n · ln 2 + r."""
    n, shifted = _nearest(x)
    high, low = x.either(*LN_2)
    return n.fma(-low, n.fma(-high, x)), _power(shifted)


def _exp_negative(x: Value) -> Value:
    rest, power = _split(x.at_least(x.either(*FLUSHED)))
    return power.fma(_expm1_reduced(rest), power)


def _expm1_negative(x: Value) -> Value:
    x = x.at_least(x.either(-20.0, -40.0))
    if x.vector.itemsize == 4:  # where n is large, its rounded product with ln 2 is lost in the -1
        n, shifted = _nearest(x)
        expm1, power = _expm1_reduced(n.fma(-LN_2_ROUNDED, x)), _power(shifted)
    else:
        rest, power = _split(x)
        expm1 = _expm1_reduced(rest)
    return power.fma(expm1, power - 1.0)


def _tanh(x: Value) -> Value:
    t = _expm1_negative(x.call("fabs") * -2.0)
    return (t / (-2.0 - t)).call("copysign", x)


def _tanh_slope(y: Value) -> Value:
    return (y * -1.0).fma(y, 1.0)


# e^r for |r| <= ln 2 / 2 with an error of at most 1e-7, which is enough where one is added to it.
SHORT_EXP = (1.0, 1.0, 0.49999230309074016, 0.16667115388868614, 0.04189033157407433, 0.008312501289060878)


def _exp_short(x: Value) -> Value:
    if x.vector.itemsize == 8:
        return _exp_negative(x)
    x = x.at_least(FLUSHED[0])
    n, shifted = _nearest(x)
    r = n.fma(-LN_2_ROUNDED, x)
    square, (_, _, c2, c3, c4, c5) = r * r, SHORT_EXP
    # Not by Horner's rule: shorter chains of latency let more vectors be under way.
    return square.fma(square.fma(r.fma(c5, c4), r.fma(c3, c2)), r + 1.0) * _power(shifted)


def _exp_reduced(r: Value) -> Value:
    """Return e^r for |r| <= ln 2 / 2, to which one is added."""
    return r.horner(SHORT_EXP) if r.vector.itemsize == 4 else _expm1_reduced(r) + 1.0


def _over_one_plus_exp(x: Value, z: Value) -> Value:
    """Return x / (1 + e^z)."""
    z = z.at_least(z.either(*FLUSHED)).at_most(z.either(*OVERFLOWN))
    rest, power = _split(z)
    return x / _exp_reduced(rest).fma(power, 1.0)


def _logistic(x: Value) -> Value:
    return _over_one_plus_exp(x.like(x.of(1.0)), x * -1.0)


def _logistic_slope(y: Value) -> Value:
    return y * (1.0 - y)


def _gated_slope(z: Value, w: Value) -> Value:
    rest, power = _split(z * -1.0)
    e = _exp_reduced(rest) * power
    d = 1.0 / (e + 1.0)
    return (w * e * d).fma(d, d)


def _self_gated(x: Value) -> Value:
    return _over_one_plus_exp(x, x * -1.0)


def _self_gated_slope(x: Value) -> Value:
    near = x.at_least(-GATE).at_most(GATE)
    return _gated_slope(near, near)


# GELU and its slope in single precision: max(0, x) - |x| · Φ(-|x|) and, for x > 0, 1 - s(x), for x < 0 s(-x), where
# s(x) = Φ(-x) - x · φ(x). Φ(-x)^(1/8) and (s(x) / (ROOT - x))^(1/8) are so smooth for 0 <= x <= 6 that polynomials come
# within 6e-8 and 1e-8 of them: what is raised needs neither an exponential nor a quotient.
TAIL = (
    0.9170039903891505, -0.09145662750127027, -0.031930700470742784, -0.0006710525038281599, 0.0015096674931329625,
    2.6077449876095308e-05, -5.47928969491514e-05, 5.51131735292152e-06, 1.0057164910043556e-07,
    -4.1674915235212556e-08, 1.759836943816944e-09,
)  # fmt: skip
TAIL_OF_SLOPE = (
    0.9502963834556586, -0.03155189230170355, -0.04563023404911013, -0.003017688202699383, 0.0025013618156398834,
    -0.000123940217508811, -3.070106461335231e-05, 3.19254587448837e-06, -4.943318492257314e-07,
    1.8808591793171274e-07, -3.046767482874672e-08, 2.2094377785825315e-09, -6.205481834665533e-11,
)  # fmt: skip
ROOT = 0.7517915246935645  # of s
END = 6.0  # where nothing of either tail is left: 6e-9 and 4e-8


def _raised(x: Value, root: Sequence[float]) -> tuple[Value, Value]:
    """Return |x|, no more than END, and the eighth power of a polynomial of it."""
    near = x.call("fabs").at_most(END)
    power = near.polynomial(root)
    for _ in range(3):
        power = power * power
    return near, power


def _normal_gated(x: Value) -> Value:
    if x.vector.itemsize == 8:
        _, distribution = _normal(x)
        return x * distribution
    near, tail = _raised(x, TAIL)
    return (near * -1.0).fma(near.where(">=", END, 0.0, tail), x.at_least(0.0))


def _normal_gated_slope(x: Value) -> Value:
    if x.vector.itemsize == 8:
        density, distribution = _normal(x)
        return x.fma(density, distribution)
    near, power = _raised(x, TAIL_OF_SLOPE)
    tail = near.where(">=", END, 0.0, (ROOT - near) * power)
    return x.where(">", 0.0, 1.0 - tail, tail)


# In double precision Mills' ratio, Φ(-x) / φ(x), by √(2π), for all x >= 0: a polynomial by x + k, in
# t = (x - k) / (x + k), as in Shepherd and Laframboise, "Chebyshev approximation of (1 + 2x) exp(x²) erfc x", Math.
# Comp. 36, 1981.
MILLS_K = 5.0
MILLS = (
    0.769193049750063, -0.6653825028900577, 0.4953056159699768, -0.3135331566712138, 0.16502036617034282,
    -0.06911863870881432, 0.020795066800941616, -0.00299337673822322, -0.0007978694094808063,
    0.00054489883090093, -5.9375673286488655e-05, -4.976177118979218e-05, 1.6681099115863468e-05,
    3.977912640593242e-06, -2.769337871043854e-06, -3.310698071526862e-07, 4.340262594829775e-07,
    3.581840051543223e-08, -6.782555313291156e-08, -5.015649939857857e-09, 9.446827519677366e-09,
    5.037302126379857e-10, -8.166192624428987e-10,
)  # fmt: skip


# (e^r - 1) / r as a polynomial in -2r, for e^(-x²/2).
HALF = [c * (-0.5) ** (k + 1) for k, c in enumerate((1.0, *EXP[1]))]


def _half_square_exp(x: Value) -> Value:
    """Return e^(-x²/2); the square is not rounded before 2n · ln 2 is taken off, where multiply-adds are fused."""
    shifted = (x * x).fma(-0.5 * LOG2_E, ROUND[1])
    n, (high, low) = shifted - ROUND[1], LN_2[1]
    rest = n.fma(2 * low, x.fma(x, n * (2 * high)))  # n is negative
    power = _power(shifted)
    return (power * rest).fma(rest.horner(HALF), power)


def _normal(x: Value) -> tuple[Value, Value]:
    """Return φ(x) and Φ(x) in double precision, Φ exact in the lower tail too: erfc(-x/√2) / 2."""
    near = x.call("fabs").at_most(37.66)  # where e^(-x²/2) is flushed to zero
    e, d = _half_square_exp(near), 1.0 / (near + MILLS_K)
    tail = e * ((near * d).fma(2.0, -1.0).polynomial(MILLS) * d)
    return e * 0.3989422804014327, x.where("<", 0.0, tail, 1.0 - tail)


# log(1 + f) = f - f²/2 + s · (f²/2 + R(s²)), s = f / (2 + f), for 1 + f between √½ and √2: the terms of R, of FreeBSD's
# `k_logf.h` and `k_log.h`.
LOG = (
    (0.66666662693, 0.40000972152, 0.28498786688, 0.24279078841),
    (
        6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01, 2.222219843214978396e-01,
        1.818357216161805012e-01, 1.531383769920937332e-01, 1.479819860511658591e-01,
    ),
)  # fmt: skip
HALF_ROOT = (0x3F3504F3, 0x3FE6A09E667F3BCD)  # the bits of √½


def _log(x: Value) -> Value:
    """Return log(x) for what is at least the smallest normal number; infinity and NaN stay."""
    integer, digits = _bits(x).type, x.either(23, 52)

    def constant(k: int) -> ir.Constant:
        return ir.Constant(integer, [k] * x.vector.lanes)

    one, half_root = x.either(127, 1023) << digits, x.either(*HALF_ROOT)
    bits = x.builder.add(_bits(x), constant(one - half_root))
    exponent = x.builder.sub(x.builder.lshr(bits, constant(digits)), constant(one >> digits))
    fraction = x.builder.add(x.builder.and_(bits, constant((1 << digits) - 1)), constant(half_root))
    n = x.like(x.builder.sitofp(exponent, x.vector.ir))
    f = x.like(x.builder.bitcast(fraction, x.vector.ir)) - 1.0
    s, half_square, (high, low) = f / (f + 2.0), f * f * 0.5, x.either(*LN_2)
    square = s * s
    rest = s.fma(square.fma(square.horner(x.either(*LOG)), half_square), n * low)
    return x.where("<", float("inf"), n.fma(high, f - (half_square - rest)), x)


def _log1p(x: Value) -> Value:
    """Return log(1 + x) for x >= 0, with a correction for the rounding of 1 + x."""
    whole = x + 1.0
    return _log(whole) + (x - (whole - 1.0)) / whole


# (artanh(s) / s - 1) / s² for 0 <= s <= 1/3: log(1 + e) = 2 · artanh(e / (2 + e)) for 0 <= e <= 1.
ARTANH = (
    (0.3333333366026371, 0.1999985316596486, 0.14296178997151418, 0.10853287900440187, 0.11612164612011674),
    (
        0.3333333333333333, 0.20000000000007292, 0.1428571428355438, 0.11111111358713932, 0.09090894718066429,
        0.07692785032479312, 0.06657072104827468, 0.06000536404795356, 0.04400369243072337, 0.08082022805971766,
    ),
)  # fmt: skip


def _softplus(x: Value, beta: Value, width: Value, threshold: Value) -> Value:
    z = x * beta
    e = _exp_negative(z.call("fabs") * -1.0)
    s = e / (e + 2.0)
    square = s * s
    artanh = square.polynomial(square.either(*ARTANH)).fma(square * s, s)
    return z.where(">", threshold, x, artanh.fma(2.0, z.at_least(0.0)) * width)


def _softplus_slope(x: Value, beta: Value, width: Value, threshold: Value) -> Value:
    z = x * beta
    return z.where(">", threshold, 1.0, _logistic(z))


def _celu(x: Value, alpha: Value, rate: Value) -> Value:
    return x.where(">", 0.0, x, alpha * _expm1_negative(x * rate))


def _celu_slope(x: Value, alpha: Value, rate: Value) -> Value:
    return x.where(">", 0.0, 1.0, _exp_negative(x * rate))


# x · tanh(log(1 + e^x)) = x · w / (w + 2) with w = e^x · (e^x + 2); beyond FLAT the quotient is 1 to the last bit.
FLAT = 20.0


def _mish(x: Value) -> Value:
    e = _exp_negative(x.at_most(FLAT))
    w = e * (e + 2.0)
    return x * (w / (w + 2.0))


def _mish_slope(x: Value) -> Value:
    x = x.at_least(-GATE).at_most(FLAT)
    e = _exp_negative(x)
    w, d = e * (e + 2.0), 1.0 / e.fma(e + 2.0, 2.0)
    return (x * e * (e + 1.0) * d).fma(4.0, w) * d


def _gate(x: Value) -> Value:
    """Return 6 · the hard sigmoid: x + 3 between 0 and 6."""
    return (x + 3.0).at_least(0.0).at_most(6.0)


def _hard_sigmoid(x: Value) -> Value:
    return _gate(x) * (1 / 6)


def _hard_sigmoid_slope(x: Value) -> Value:
    return x.where("<", 3.0, x.where(">", -3.0, 1 / 6, 0.0), 0.0)


def _hard_swish(x: Value) -> Value:
    return x * (_gate(x) * (1 / 6))


def _hard_swish_slope(x: Value) -> Value:
    return x.where("<", 3.0, x.where(">", -3.0, x.fma(1 / 3, 0.5), 0.0), 1.0)


def _keep_between(x: Value, y: Value, low: Value, high: Value) -> Value:
    return y.where(">", low, y.where("<", high, x, 0.0), 0.0)


def _where_positive(x: Value, y: Value, z: Value) -> Value:
    return x.where(">", 0.0, y, z)


def _clamp(x: Value, low: Value, high: Value) -> Value:
    return x.at_least(low).at_most(high)


def _function(emit: Callable[..., Value], formula: str) -> Any:
    """Return an intrinsic of vectors of one type, as many as `emit` takes."""

    def emit_value(builder: ir.IRBuilder, vector: Vector, *arguments: Any) -> Any:
        return emit(*(Value(builder, vector, argument) for argument in arguments)).value

    return vector_intrinsic(emit.__name__.strip("_"), formula, list(signature(emit).parameters), emit_value)


def _of_number(emit: Callable[[Value], Value], formula: str) -> Any:
    """Return an intrinsic of a single number: of a register full of it."""

    def typed(typingctx: Any, x: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            vector = Vector(x)
            value = emit(Value(builder, vector, emit_splat(builder, vector, arguments[0]))).value
            return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))

        return x(x), codegen

    typed.__name__, typed.__doc__ = f"{emit.__name__.strip('_')}_of_number", formula
    return intrinsic(typed)


exp_negative = _function(_exp_negative, "Return e^x for x <= 0; zero where it is below the smallest normal number.")
exp_of_number = _of_number(_exp_negative, "Return e^x of a number x <= 0, as `exp_negative`.")
log1p_of_number = _of_number(_log1p, "Return log(1 + x) of a finite number x >= 0, to the last places near 0 too.")
exp_short = _function(
    _exp_short, "Return e^x for x <= 0, in single precision to 4e-7 of it; zero as `exp_negative` is."
)
expm1_negative = _function(_expm1_negative, "Return e^x - 1 for x <= 0, exact near 0.")
tanh = _function(_tanh, "Return tanh(x).")
tanh_slope = _function(_tanh_slope, "Return the derivative of `tanh`, from its value.")
logistic = _function(_logistic, "Return 1 / (1 + e^-x).")
logistic_slope = _function(_logistic_slope, "Return the derivative of `logistic`, from its value.")
over_one_plus_exp = _function(_over_one_plus_exp, "Return x / (1 + e^z).")
gated_slope = _function(_gated_slope, "Return σ(z) · (1 + w · (1 - σ(z))) for |z| <= GATE, with the logistic σ.")
self_gated = _function(_self_gated, "Return x / (1 + e^-x).")
self_gated_slope = _function(_self_gated_slope, "Return its derivative, σ(x) · (1 + x · (1 - σ(x))).")
normal_gated = _function(_normal_gated, "Return x · Φ(x); in single precision to 2e-7, and zero below -6.")
normal_gated_slope = _function(_normal_gated_slope, "Return Φ(x) + x · φ(x); in single precision to 4e-7.")
where_positive = _function(_where_positive, "Return y where x > 0, z elsewhere.")
clamp = _function(_clamp, "Return x, between y and z; a NaN stays.")
softplus = _function(_softplus, "Return x where x · y > w, else log(1 + e^(x · y)) · z; z is 1 / y.")
softplus_slope = _function(_softplus_slope, "Return its derivative, 1 where x · y > w, else the logistic of x · y.")
celu = _function(_celu, "Return x where x > 0, else y · (e^(x · z) - 1); z is 1 / y.")
celu_slope = _function(_celu_slope, "Return its derivative, 1 where x > 0, else e^(x · z).")
mish = _function(_mish, "Return x · tanh(log(1 + e^x)).")
mish_slope = _function(_mish_slope, "Return its derivative.")
hard_sigmoid = _function(_hard_sigmoid, "Return (x + 3) / 6, between 0 and 1.")
hard_sigmoid_slope = _function(_hard_sigmoid_slope, "Return its derivative, 1/6 where -3 < x < 3, else 0.")
hard_swish = _function(_hard_swish, "Return x · (x + 3) / 6 where -3 < x < 3; 0 below, x above.")
hard_swish_slope = _function(_hard_swish_slope, "Return its derivative, x/3 + 1/2 where -3 < x < 3; 0 below, 1 above.")
keep_between = _function(_keep_between, "Return x where z < y < w, else 0.")
