"""Real workers on a real Redis, and everything that can be put in front of them."""
