"""Compiled numerics: arrays in, arrays out; never allocates, checks or prints."""
