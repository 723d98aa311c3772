"""The tables of the papers."""

from neurosim.tables.page import terminal_table, write_table
from neurosim.tables.table import TABLES, Choice, plan_table, table_named
