"""``python -m evmlb``: the console command."""

from evmlb.cli import main

main()
