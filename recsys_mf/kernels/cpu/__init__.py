"""The kernels on CPU cores: numba, one conflict-free block or range of rows per thread.

`rows`, `sgd`, `probit` and `prediction` are the families of `kernels.backend`, which cut the work for threads; the
compiled loops are in `cholesky`, `lanes`, `tiles` and `cg` (systems of rows), `sparse`, `values`, `visits` and
`scheduler` (SGD), `normal` (Φ and its inverse), written with the vector instructions of `simd`. Kernels are compiled
once per rank and kept on disk.
"""
