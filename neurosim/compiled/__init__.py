"""Passes over memory that Numba compiles: an optional part, which the extra ``fast`` brings."""

from neurosim.compiled.compiler import PIECE, compiled, kernels

__all__ = ["PIECE", "compiled", "kernels"]
