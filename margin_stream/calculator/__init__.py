"""The what-if calculator: one scenario in, one answer out, no store. The arithmetic is that of the margin models."""

from margin_stream.calculator.results import margin, margin_line

__all__ = ["margin", "margin_line"]
