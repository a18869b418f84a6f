"""Characters that the LaTeX of the paper may have; pdflatex drops or refuses others."""

import re
import unicodedata

from mlm.errors import InputError

MATHS = {
    "−": "-", "≤": r"\le", "≥": r"\ge", "≠": r"\ne", "≈": r"\approx", "∞": r"\infty", "∈": r"\in", "√": r"\surd",
    "≪": r"\ll", "≫": r"\gg", "⇒": r"\Rightarrow",
    **dict(zip("αβγδεζηθικλμνξπρστυφχψω", (rf"\{name}" for name in (
        "alpha beta gamma delta varepsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon "
        "varphi chi psi omega").split()), strict=True)),
    **dict(zip("ΓΔΘΛΞΠΣΦΨΩ", (rf"\{name}" for name in
           "Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega".split()), strict=True)),
    **{power: f"{{}}^{digit}" for digit, power in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
    **{index: f"{{}}_{digit}" for digit, index in enumerate("₀₁₂₃₄₅₆₇₈₉")},
    "⁻": "{}^-",
}  # fmt: skip
"""Declared in the template's head, each as what stands for it in mathematics."""
FONT = "".join(map(chr, (*range(0xA1, 0xAD), *range(0xAE, 0x100), *range(0x100, 0x126), *range(0x128, 0x138),
                         *range(0x139, 0x13F), *range(0x141, 0x149), *range(0x14A, 0x166), *range(0x168, 0x17F),
                         0x218, 0x219, 0x21A, 0x21B, 0x1E9E))) + "–—‘’‚“”„†‡•‰‹›€→←↑↓™\u00a0"  # fmt: skip
"""What the fonts of T1 and TS1 have, or LaTeX builds of them."""


def declarations() -> str:
    r"""The head's lines that tell LaTeX what it lacks: `\DeclareUnicodeCharacter{2212}{\ensuremath{-}}` and so on."""
    lines = (f"\\DeclareUnicodeCharacter{{{ord(c):04X}}}{{\\ensuremath{{{tex}}}}}" for c, tex in MATHS.items())
    return "\n".join(lines)


def check(tex: str, path: str) -> None:
    """Refuse what would be missing from the pages.

    Raises:
        InputError: each such character, with the line and what stands around it.
    """
    found = []
    for number, line in enumerate(tex.splitlines(), 1):
        for at in re.finditer(r"[^\x00-\x7f]", line):
            if at[0] not in MATHS and at[0] not in FONT:
                around = line[max(0, at.start() - 25) : at.end() + 25]
                name = unicodedata.name(at[0], f"U+{ord(at[0]):04X}")
                found.append(
                    f"{path}, line {number}: pdflatex has no {at[0]!r} ({name}) in “{around}”; write it "
                    "otherwise, or add it to MATHS in analysis/latex_characters.py"
                )
    if found:
        raise InputError(*dict.fromkeys(found))
