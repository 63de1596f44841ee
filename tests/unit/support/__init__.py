"""What the tests stand on, tested."""
