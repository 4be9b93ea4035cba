"""A NexusMessaging server: what it decides (exchange), what it keeps (store), its door (app), its process (serve)."""
