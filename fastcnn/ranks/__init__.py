"""Ranks: processes, on one machine or on many, that train one network together; and what they tell each other."""
