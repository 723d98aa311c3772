"""YAML files with a line for every value.

    document = documents.apply_overrides(documents.load(path), ["training.epochs=3"])
    scenario = documents.parse(Scenario, document)

Whatever is wrong with a document is a `DocumentError` with the file, line and column of each
problem.
"""

from neurosim.documents.document import (
    COMMAND_LINE,
    apply_overrides,
    folder,
    load,
    load_part,
    located,
    quotes_hint,
)
from neurosim.documents.validation import by_key, parse
from neurosim.documents.yaml import Document, NodePath, dumps, loads
