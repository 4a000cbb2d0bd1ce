"""The console at ``/``: pages for people, made on the server with Jinja and htmx.

Everything that it knows and does goes through the same functions as the API's routes.
"""
