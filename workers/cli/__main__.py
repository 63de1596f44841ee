"""`python -m workers.cli`, for where the console script is not on the PATH."""

from workers.cli import main

main()
