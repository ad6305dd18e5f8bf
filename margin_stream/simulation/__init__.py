"""Seeded days: prices, accounts, trades and answers, in integers, so that equal arguments give equal bytes
everywhere."""

DEFAULT_PROFILES = ("prime",)
