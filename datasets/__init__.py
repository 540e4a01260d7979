"""Data files: the generated sample, its data card README.md, and the catalogue of public data sets.

They lie in `datasets/` beside the package and are installed as `recsys_mf.datasets` (see pyproject.toml), editable or
not; `recsys_mf.loaders.catalog` finds them there. A bare checkout on the path does not have this package.
"""
