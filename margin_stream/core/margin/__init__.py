"""Margin: what a model gives, the guards over it, and the models."""
