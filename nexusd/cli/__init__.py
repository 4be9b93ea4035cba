"""The two programs: nexusd for the daemon, nexus for the hand."""
