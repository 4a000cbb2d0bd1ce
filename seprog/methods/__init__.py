"""Ways to edit a language model, each from its paper, behind one contract.

seprog itself and what it is compared with, so that everything is measured alike.
"""

from seprog.methods.contract import EditMethod, Request
from seprog.methods.finetuning import FT, FTL, FineTuningConfig, LoRA
from seprog.methods.gated import InContextRetrieved, Seprog, SeprogOracle, Verbatim
from seprog.methods.grace import GRACE, GraceConfig
from seprog.methods.locating import MEMIT, ROME, AlphaEdit, LocatingConfig
from seprog.methods.mend import MEND, Lesson, MendTraining, train_mend
from seprog.methods.none import Nothing
from seprog.methods.reading import InContextOracle, ReaderOracle
from seprog.methods.recipe import RECIPE, RecipeTraining, train_recipe
from seprog.methods.serac import SERAC, EditCorpus, single_stages

__all__ = [
    "FT",
    "FTL",
    "GRACE",
    "MEMIT",
    "MEND",
    "RECIPE",
    "ROME",
    "SERAC",
    "AlphaEdit",
    "EditCorpus",
    "EditMethod",
    "FineTuningConfig",
    "GraceConfig",
    "InContextOracle",
    "InContextRetrieved",
    "Lesson",
    "LoRA",
    "LocatingConfig",
    "MendTraining",
    "Nothing",
    "ReaderOracle",
    "RecipeTraining",
    "Request",
    "Seprog",
    "SeprogOracle",
    "Verbatim",
    "single_stages",
    "train_mend",
    "train_recipe",
]
