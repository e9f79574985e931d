"""Recorded kernel calls, their replay, and the threads that share them out."""
