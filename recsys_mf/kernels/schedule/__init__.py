"""The schedule of masked SGD: where every triple lies in memory, and in which order blocks of triples are visited.

`grid` decides which blocks share rows, `host` puts the triples in that order by counting sorts (`triton.schedule` does
on a card), `passes` brings them to the kernels, and `plan` makes all of it for a table.
"""
