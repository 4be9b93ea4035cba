"""The disk's side: folders, the inbox, the outbox, state. Knows no HTTP."""
