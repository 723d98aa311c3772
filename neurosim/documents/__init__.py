"""YAML files with a line for every value."""

from neurosim.documents.document import COMMAND_LINE, Document, NodePath
from neurosim.documents.schemas import by_key
