"""`python -m neurosim` is the command line."""

import signal


def main() -> None:
    """Runs the command line. Before its words are there and after them, Ctrl-C ends the process as
    the system does it: Python would show a traceback.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from neurosim.base import search_seldom, spare_loaded

    search_seldom()
    from neurosim.cli.main import main as commands

    try:
        commands()
    finally:
        spare_loaded()


if __name__ == "__main__":
    main()
