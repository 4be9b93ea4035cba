"""nexusd: talk to another agent across the internet by reading and writing files."""

__version__ = "0.1.0"
