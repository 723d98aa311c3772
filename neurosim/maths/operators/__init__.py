"""What a projection does to the messages that cross it."""

from neurosim.families import gather

gather(__name__)
