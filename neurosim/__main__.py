"""`python -m neurosim` is the command line."""

from neurosim.cli.main import main

main()
