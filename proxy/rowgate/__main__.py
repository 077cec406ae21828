"""Run the command line as ``python -m rowgate``."""

from rowgate.cli.main import main

main()
