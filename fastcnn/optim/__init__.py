"""Optimizers, schedules of learning rates, averages of parameters."""
