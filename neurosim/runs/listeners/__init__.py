"""What follows a run as it goes on."""
