"""YAML files with a line for every value."""

from neurosim.documents.document import COMMAND_LINE, Document, NodePath

__all__ = [
    "COMMAND_LINE",
    "Document",
    "NodePath",
]
