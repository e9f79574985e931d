"""The layers: shapes, parameters, and which kernel computes what."""
