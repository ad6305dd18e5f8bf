"""Margin calls: the axes of a call's state, and the lifecycle that moves them."""
