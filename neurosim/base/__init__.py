"""What everything stands on: errors, random streams, files, words. Imports no library."""

from neurosim.base.errors import (
    ConfigurationError,
    DataError,
    DivergenceError,
    DocumentError,
    FolderInUseError,
    InputError,
    NetworkError,
    NeurosimError,
    NeurosimWarning,
    PeerError,
    PluginError,
    Problem,
    RepairWarning,
    StateError,
    inside,
)
from neurosim.base.files import (
    finite,
    here,
    lying_at,
    naming,
    owned,
    plain,
    remove_unfinished,
    write_atomic,
    write_json,
)
from neurosim.base.garbage import search_seldom, spare_loaded
from neurosim.base.html import html_table
from neurosim.base.interrupts import (
    SIGNALS,
    Interrupted,
    ignore_at_exit,
    interrupted_by,
    interruptible,
    interrupts_raised,
)
from neurosim.base.launch import Launch, leads
from neurosim.base.random import seed_sequence, stream
from neurosim.base.shipped import about, find_file, given, shipped_files, shipped_folder
from neurosim.base.suggest import did_you_mean, nearest, shorten, unknown
from neurosim.base.ticks import LAST_TICK, NEVER, duration_ticks, ticks_of
from neurosim.base.words import (
    compact,
    cut,
    duration,
    flat,
    gigabytes,
    harmless,
    number,
    plus_minus,
    spoken,
    spread,
)
