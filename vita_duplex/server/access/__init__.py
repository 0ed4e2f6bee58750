"""Who may come in, how many, and how much."""
