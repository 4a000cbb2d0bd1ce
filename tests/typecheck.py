"""The checker of annotations at run time, named in pyproject.toml: an int is a float, as always."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
