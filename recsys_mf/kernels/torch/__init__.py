"""The kernels in torch, for CUDA; on torch's CPU device they are the same code, which is how tests hold them to the
reference if there is no card.

`rows`, `sgd`, `probit` and `prediction` are the families of `kernels.backend`; `streaming` keeps triples on the device
or sends them there part by part, `memory` says what of the card is free, `dense_svd` decomposes a matrix in full.
"""
