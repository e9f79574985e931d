"""What happens to a network before it runs: operations and values, their layouts and memory; and layers alone."""
