"""Matrix factorisation for rating tables."""
