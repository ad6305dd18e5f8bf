"""Margin models, one file each; importing this package registers them."""

from margin_stream.core.models import prime

__all__ = ["prime"]
