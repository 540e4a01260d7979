"""The kernels in torch, for CUDA. The same code runs on torch's CPU device, where tests compare it with the reference
if there is no card.

`rows`, `sgd`, `probit` and `prediction` are the families of `kernels.backend`; `streaming` keeps triples on the device
or sends them there part by part, `memory` says how much memory of the card is free, `dense_svd` decomposes a full
matrix.
"""
