"""Types of configuration values: counts, shares, plug-ins."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, Discriminator, Field


def whole(value: Any) -> Any:
    """Accept 2.5e6 as a count of tokens, refuse 2.5."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


MOST = 2**53
"""Of what is counted: up to here a float counts exactly, too."""
Count = Annotated[int, BeforeValidator(whole), Field(ge=1, le=MOST)]
CountOrZero = Annotated[int, BeforeValidator(whole), Field(ge=0, le=MOST)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
"""Of what files, folders and targets are called by, and words of a shell: none is an option or has a blank."""

PLUGIN = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"


def or_plugin(*names: str) -> AfterValidator:
    """One of a few names, or the path of a plug-in."""

    def check(value: str) -> str:
        if value not in names and not re.fullmatch(PLUGIN, value):
            choice = f"choose one of {', '.join(names)}, or " if names else ""
            raise ValueError(f"is {value!r}; {choice}give your own as `module.of.yours:name`")
        return value

    return AfterValidator(check)


PluginPath = Annotated[str, or_plugin()]
"""A Python object of the user's own, `module.of.theirs:name`; see mlm.plugins and docs/plugins.md."""
Shape = Annotated[str, or_plugin("linear", "cosine", "step")]
Rise = Annotated[str, or_plugin("linear", "cosine")]


def section_or(plain: str, section: type[BaseModel]) -> Discriminator:
    """Of a value that is either plain or a section: errors speak of the one that was meant.

    The tags, `<section>` and `plain`, stand in angle brackets, which mlm.yaml_file takes out of a key's path.
    """
    return Discriminator(lambda value: "<section>" if isinstance(value, dict | section) else plain)
