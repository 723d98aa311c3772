"""`python -m neurosim` is the command line."""

import gc
import signal

_OBJECTS = 50_000  # made between two collections of garbage: Python's 700 are for small heaps


def main() -> None:
    """Runs the command line. Before its words are there and after them, Ctrl-C ends the process as
    the system does it: Python would show a traceback.

    What is loaded, torch for the most part, is never garbage: it is looked at seldom, and not at
    all when the process ends.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.set_threshold(_OBJECTS, *gc.get_threshold()[1:])
    from neurosim.cli.main import main as commands

    try:
        commands()
    finally:
        gc.freeze()


if __name__ == "__main__":
    main()
