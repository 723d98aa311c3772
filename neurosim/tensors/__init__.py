"""Arrays: selections, slots, their order in memory, devices."""

from neurosim.tensors.arrays import (
    Array,
    Arrays,
    Copied,
    Copier,
    Dimensions,
    Plain,
    as_array,
    as_tensors,
    check_arrays,
    complete,
    count_bytes,
    load_arrays,
    mapped,
    passing_arrays,
    reset_arrays,
    same,
    save_arrays,
)
from neurosim.tensors.changes import (
    any_nonzero,
    beyond_rounding,
    count,
    differing,
    finite_product,
    places,
    summed,
    surely_finite,
    tally,
    unequal,
)
from neurosim.tensors.devices import (
    PATTERN,
    Flags,
    autocasts,
    check_device,
    full_precision,
    gathered,
    moved,
    repeatable,
    resolve_device,
    unchanged,
    upload,
)
from neurosim.tensors.graph import GRAPHS
from neurosim.tensors.guesses import Guesses, Told
from neurosim.tensors.host import drawn, read
from neurosim.tensors.kinds import Dtypes, check_array, check_kind, check_like, restore
from neurosim.tensors.late import largest_moderate
from neurosim.tensors.machine import (
    describe_machine,
    device_bytes,
    keep_memory,
    out_of_memory,
    peak_memory,
    reset_peak_memory,
)
from neurosim.tensors.order import (
    Ints,
    as_stored,
    blank,
    by_position,
    for_library,
    lies_by_position,
    positions_of,
    unwritten,
)
from neurosim.tensors.selection import Pair, Selection, Shape, Whole, rows, shaped
from neurosim.tensors.slots import Deferred, Floats, Slot, Stale, materialized
from neurosim.tensors.sums import plain, resolved
from neurosim.tensors.tape import Tape
from neurosim.tensors.writes import Writes
