"""Importers: the field's data sets, from a user's own copy, checked row by row."""
