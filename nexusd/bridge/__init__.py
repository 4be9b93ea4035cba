"""The loops: the one room that joins the server's side and the disk's."""
