"""Arrays: the long arrays of rating tables before any arithmetic on ratings.

Where they lie (`mapped`), their order (`sorting`), ids and indices (`lookup`), and the threads that work on them
(`threads`, `cores`). Numba is loaded when a loop is first run, so that what only reads arrays does without.
"""
