"""Margin models, one file each; importing this package registers them."""

from margin_stream.core.margin.models import binance_usdm, prime

__all__ = ["binance_usdm", "prime"]
