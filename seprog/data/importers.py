"""All importers of editing cases."""

from __future__ import annotations

from seprog.data import counterfact, knowedit, mquake, rippleedits, zsre

IMPORTERS = (
    zsre.MEND,
    zsre.ANNOTATED,
    counterfact.FULL,
    counterfact.FLAT,
    knowedit.KNOWEDIT,
    knowedit.ZSRE,
    mquake.FULL,
    mquake.JOINED,
    rippleedits.RIPPLEEDITS,
)
