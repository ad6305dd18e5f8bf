"""``python -m margin_stream.cli``: the same as the command ``margin-stream``."""

from margin_stream.cli.main import main

main()
