"""The kernels on a CUDA device in Triton: those whose work torch's library would do in several passes over memory.

`sgd` and `schedule` are masked SGD, `rows` sums and solves the systems of rows, `pairs` makes passes over rated pairs;
`backend` puts them beside the families of `kernels.torch`, which do the rest. They also run under Triton's interpreter.
"""
