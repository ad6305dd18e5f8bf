"""Importers: market data files in, inputs out."""
