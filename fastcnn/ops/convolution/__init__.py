"""Convolutions: one file for each implementation."""
