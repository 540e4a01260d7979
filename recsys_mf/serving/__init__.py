"""Serving: what people ask of a trained run: lists of items, similar rows, answers for new users, reasons.

Everything here takes a run by what it has (`trained.Trained`), checks ids and options, and is thin: the arithmetic is a
blocked product with a list of the best (`prediction.ranking`), or a row solve with the other side fixed (`folding`).
"""
