"""The daemon's commands. Each module holds one verb or a few that belong together."""
