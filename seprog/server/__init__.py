"""The server: an OpenAI-compatible API, an edits API, and a console; needs the ``server`` extra."""
