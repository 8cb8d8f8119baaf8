"""Run the command as `python -m raydistill.cli`."""

from raydistill.cli import main

main()
