"""`python -m headrace`: the command."""

from headrace.cli import main

main()
