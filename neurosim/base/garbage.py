"""Python's search for garbage, in a process that is there for one command."""

import gc

_LOADED = 500_000  # made between two searches while modules are loaded,
_OBJECTS = 50_000  # and from then on: Python's 700 are for small heaps
_seldom = False


def search_seldom() -> None:
    """Has this process search seldom, as what a command loads, torch for the most part, is never
    garbage."""
    global _seldom
    gc.set_threshold(_LOADED, *gc.get_threshold()[1:])
    _seldom = True


def spare_loaded() -> None:
    """Leaves out of all searches what is there by now, in a process that searches seldom."""
    if _seldom:
        gc.freeze()
        gc.set_threshold(_OBJECTS, *gc.get_threshold()[1:])
