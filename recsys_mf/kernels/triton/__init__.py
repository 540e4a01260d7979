"""The kernels on a CUDA device in Triton: those for which torch's library would make several passes over memory.

`sgd` and `schedule` are masked SGD, `rows` sums and solves the systems of rows, `pairs` makes passes over rated pairs;
`backend` combines them with the families of `kernels.torch`, which do the rest. They also run under Triton's
interpreter.
"""
