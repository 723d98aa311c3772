"""YAML files with a line for every value.

    document = documents.apply_overrides(documents.load(path), ["training.epochs=3"])
    scenario = documents.parse(Scenario, document)

Whatever is wrong with a document is a `DocumentError` with the file, line and column of each
problem.
"""

from neurosim.documents.document import (
    ReadPart,
    apply_overrides,
    folder,
    load,
    load_part,
    located,
    quotes_hint,
)
from neurosim.documents.merging import DEFAULTS
from neurosim.documents.schemas import Schemas, by_key
from neurosim.documents.validation import parse
from neurosim.documents.yaml import COMMAND_LINE, Document, NodePath, dumps, loads
