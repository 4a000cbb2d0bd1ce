"""The command line: parses, calls the library, prints. One file per command or pair of commands.

Importing it loads neither torch nor a model, so that ``--help`` is fast: what a command needs of
seprog, it imports when it runs.
"""
