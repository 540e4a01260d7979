"""Arrays: the long arrays of rating tables before any arithmetic on ratings.

In memory or in files (`mapped`), their order (`sorting`), ids and indices (`lookup`), and the threads that work on them
(`threads`, `cores`). Numba is loaded when a loop is first run, so code that only reads arrays does not need it.
"""
