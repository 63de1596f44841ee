"""The doctor's judgements, without anything to look at."""
