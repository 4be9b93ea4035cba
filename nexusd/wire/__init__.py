"""The server's side: the protocol, its client, what a failure means. Knows no files."""
