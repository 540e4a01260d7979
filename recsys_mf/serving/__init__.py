"""Serving: what a trained run is used for: lists of items, similar rows, predictions for new users, explanations.

Everything here takes a run as a `trained.Trained`, checks ids and options, and is thin: the arithmetic is a blocked
product with a list of the best (`prediction.ranking`), or a row solve with the other side fixed (`folding`).
"""
