"""Draws, compiled: values of the likelihoods for a block of columns, each of which has a generator of its own.

So a sample path is the same whatever the number of threads and of other paths. (The negative binomial and the beta
likelihood use numpy's generator, one for each block.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sagesmith.algorithms.deepar.curves_compiled import (
    LOG2_E,
    ONE,
    TWO,
    ZERO,
    logarithm,
    power_less_1,
    sine_of_turns,
    softplus16,
)  # fmt: skip
from sagesmith.algorithms.deepar.likelihoods import BETA, GAUSSIAN, NEGATIVE_BINOMIAL, SMALLEST, STUDENT_T
from sagesmith.algorithms.deepar.products_compiled import WIDTH
from sagesmith.algorithms.lanes_compiled import fma, larger, load16, root, spread16, store
from sagesmith.formats.compiled import compiled, inlined

LEAST = np.float32(SMALLEST)
LARGEST_MEAN = 1e9  # of a count, so that a Poisson number still fits its type
UNIT, HALF_UNIT, QUARTER, HALF = np.float32(2.0**-24), np.float32(2.0**-25), np.float32(0.25), np.float32(0.5)
LEFT_2 = np.float32(-2.0)
GOLDEN, MIX_1, MIX_2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@inlined
def mixed(seed: Any, number: Any) -> Any:
    """64 bits, the number'th of SplitMix64: Steele, Lea and Flood, Fast Splittable Pseudorandom Generators, 2014."""
    x = np.uint64(seed + np.uint64(number) * GOLDEN)
    x = np.uint64((x ^ (x >> np.uint64(30))) * MIX_1)
    x = np.uint64((x ^ (x >> np.uint64(27))) * MIX_2)
    return np.uint64(x ^ (x >> np.uint64(31)))


@compiled
def begin_draws(code: Any, seeds: Any, samples: Any, first: Any, states: Any) -> None:
    """The generators' states (4, W) of the columns from `first` on, of which each of the seeds' (S,) has `samples`."""
    for b in range(states.shape[1]):
        series = min((first + b) // samples, len(seeds) - 1)
        sample = first + b - series * samples
        for half in range(2):
            bits = mixed(seeds[series], 2 * sample + half + 1)
            states[2 * half, b], states[2 * half + 1, b] = np.uint32(bits), np.uint32(bits >> np.uint64(32))
    if code == NEGATIVE_BINOMIAL or code == BETA:  # noqa: SIM109 (numba has no tuple of constants to look into)
        np.random.seed(states[0, 0])


@inlined
def turned(x: Any, places: Any) -> Any:
    """32 bits, rotated to the left."""
    return np.uint32(np.uint32(x << np.uint32(places)) | np.uint32(x >> np.uint32(32 - places)))


@compiled
def uniform(states: Any, found: Any) -> None:
    """Numbers in (0, 1) into found (B,), from states (4, B) uint32, which go on: xoshiro128++.

    Blackman and Vigna, Scrambled Linear Pseudorandom Number Generators, 2021.
    """
    s0, s1, s2, s3 = states[0], states[1], states[2], states[3]
    for b in range(len(found)):
        p, q, r, s = s0[b], s1[b], s2[b], s3[b]
        bits = np.uint32(turned(np.uint32(p + s), 7) + p)
        moved = np.uint32(q << np.uint32(9))
        r = np.uint32(r ^ p)
        s = np.uint32(s ^ q)
        s0[b], s1[b] = np.uint32(p ^ s), np.uint32(q ^ r)
        s2[b], s3[b] = np.uint32(r ^ moved), turned(s, 11)
        found[b] = np.float32(np.int32(bits >> np.uint32(8))) * UNIT + HALF_UNIT


@inlined
def _spread_out(code: Any, theta: Any, uniforms: Any, b: Any) -> Any:
    """Sixteen values of the likelihoods that have a location: Bailey, Polar generation of random variates with the
    t-distribution, 1994, whose limit for many degrees of freedom is Box's and Muller's normal distribution."""
    location, first, second = load16(theta, 0, b), load16(uniforms, 0, b), load16(uniforms, 1, b)
    wide = softplus16(load16(theta, 1, b)) + spread16(LEAST)
    height = logarithm(first) * spread16(LEFT_2)
    if code == STUDENT_T:
        freedom = softplus16(load16(theta, 2, b)) + spread16(TWO)
        height = freedom * power_less_1(height / freedom * spread16(LOG2_E))
    off = second - spread16(HALF)
    cosine = sine_of_turns(spread16(QUARTER) - larger(off, spread16(ZERO) - off))
    return fma(wide * root(larger(height, spread16(ZERO))), cosine, location)


@inlined
def softplus(x: Any) -> Any:
    return max(x, ZERO) + np.log1p(np.exp(-abs(x)))


@compiled
def _counted(theta: Any, column: Any, scale: Any) -> Any:
    mean = scale * softplus(theta[0, column]) + 1e-6
    size = np.sqrt(scale) / (softplus(theta[1, column]) + LEAST)
    rate = np.random.gamma(size, mean / size)
    return np.float32(np.random.poisson(min(rate, LARGEST_MEAN)) / scale)


@compiled
def _share(theta: Any, column: Any) -> Any:
    a = np.random.gamma(softplus(theta[0, column]) + LEAST, ONE)
    b = np.random.gamma(softplus(theta[1, column]) + LEAST, ONE)
    return np.float32(a / (a + b)) if a + b > 0 else HALF


@compiled
def draw(code: Any, theta: Any, states: Any, uniforms: Any, scales: Any, values: Any) -> None:
    """values (W,), in the window's units, of the likelihood with parameters theta (parameters or more, W).

    states (4, W): the columns' generators; uniforms (2, W): room; scales (W,).
    """
    if code == GAUSSIAN or code == STUDENT_T:  # noqa: SIM109
        uniform(states, uniforms[0])
        uniform(states, uniforms[1])
        for b in range(0, theta.shape[1], WIDTH):
            store(uniforms, 0, b, _spread_out(code, theta, uniforms, b))
        for b in range(len(values)):
            values[b] = uniforms[0, b]
    else:
        for b in range(len(values)):
            if code == NEGATIVE_BINOMIAL:
                values[b] = _counted(theta, b, scales[b])
            elif code == BETA:
                values[b] = _share(theta, b)
            else:
                values[b] = theta[0, b]
