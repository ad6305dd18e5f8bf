"""The vectorised evaluation behind the seam of ``margin_stream.core.watching``: every holder at every tick."""
