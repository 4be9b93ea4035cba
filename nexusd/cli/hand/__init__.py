"""The commands of `nexus`: a module for a kind, a function for a verb, beside it `VERB_arguments` for its parser.

A verb yields what is to be printed and may return an exit status. What it does after a `yield` is done only once the
reader has it: that is where a cursor or a bookmark moves.
"""
