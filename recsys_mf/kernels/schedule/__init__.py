"""The schedule of masked SGD: where every triple is in memory, and in which order blocks of triples are visited.

`grid` decides which blocks share rows, `host` puts the triples in that order by counting sorts (on a card,
`triton.schedule` does), `passes` brings them to the kernels, and `plan` does all of this for a table.
"""
