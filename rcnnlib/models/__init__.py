"""Floors 2 and 3: networks with weights."""
