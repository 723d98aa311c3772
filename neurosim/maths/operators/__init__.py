"""What a projection does to the messages that cross it."""
