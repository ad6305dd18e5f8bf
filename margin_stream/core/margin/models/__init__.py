"""Margin models, one file each (``usdm_bounds`` is part of ``binance_usdm``); importing this package registers them."""

from margin_stream.core.margin.models import binance_usdm, prime

__all__ = ["binance_usdm", "prime"]
