"""Several processes as one server: one that supervises, and those that serve."""
