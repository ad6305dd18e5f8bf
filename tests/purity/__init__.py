"""A checker of what types and linters cannot see: clocks, chance, floats, sets that are walked, raw iterators. ``python
-m tests.purity``."""
