"""Types of configuration values: counts, shares, plug-ins."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field


def whole(value: Any) -> Any:
    """Accept 2.5e6 as a count of tokens, refuse 2.5."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Count = Annotated[int, BeforeValidator(whole), Field(ge=1)]
CountOrZero = Annotated[int, BeforeValidator(whole), Field(ge=0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]

PLUGIN = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"
PluginPath = Annotated[str, Field(pattern=PLUGIN)]
"""A Python object of the user's own, `module.of.theirs:name`; see mlm.plugins and docs/plugins.md."""


def or_plugin(*names: str) -> AfterValidator:
    """One of a few names, or the path of a plug-in."""

    def check(value: str) -> str:
        if value not in names and not re.match(PLUGIN, value):
            raise ValueError(
                f"is {value!r}; choose one of {', '.join(names)}, or give your own as `module.of.yours:name`"
            )
        return value

    return AfterValidator(check)


Shape = Annotated[str, or_plugin("linear", "cosine", "step")]
Rise = Annotated[str, or_plugin("linear", "cosine")]
