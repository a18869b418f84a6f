"""Shapes in signatures are checked here, and only here: a run pays nothing for them."""

from jaxtyping import install_import_hook

CHECKED = ("mlm.masking", "mlm.batches", "mlm.objectives", "mlm.encoder", "mlm.evaluate")
install_import_hook(CHECKED, "beartype.beartype")
