"""Comparison: which of several models is best on the same held-out rows, and of which others that can be said."""
