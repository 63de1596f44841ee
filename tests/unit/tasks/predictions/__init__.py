"""Predictions: looking back without looking ahead, learning, and judging."""
