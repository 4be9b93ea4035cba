"""What people write to configure nexusd, and what becomes of it."""
