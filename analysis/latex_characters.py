"""Characters that the LaTeX of the paper may have; pdflatex drops or refuses others."""

import re
import unicodedata

from mlm.errors import InputError

GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "varepsilon", "ζ": "zeta", "η": "eta",
    "θ": "theta", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi", "π": "pi", "ρ": "rho",
    "σ": "sigma", "τ": "tau", "φ": "varphi", "χ": "chi", "ψ": "psi", "ω": "omega", "Γ": "Gamma", "Δ":
    "Delta", "Θ": "Theta", "Λ": "Lambda", "Π": "Pi", "Σ": "Sigma", "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega",
}  # fmt: skip
MATHS = {
    "−": "-", "≤": r"\le", "≥": r"\ge", "≠": r"\ne", "≈": r"\approx", "∞": r"\infty", "∈": r"\in",
    **{letter: f"\\{name}" for letter, name in GREEK.items()},
    **{power: f"{{}}^{digit}" for digit, power in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
    **{index: f"{{}}_{digit}" for digit, index in enumerate("₀₁₂₃₄₅₆₇₈₉")},
}  # fmt: skip
"""Declared in the template's head, each as what stands for it in mathematics."""
FONT = "".join(map(chr, (*range(0xA1, 0xAD), *range(0xAE, 0x100), *range(0x100, 0x126), *range(0x128, 0x138),
                         *range(0x139, 0x13F), *range(0x141, 0x149), *range(0x14A, 0x166), *range(0x168, 0x17F),
                         0x218, 0x219, 0x21A, 0x21B, 0x1E9E))) + "–—‘’‚“”„†‡•‰‹›€→←↑↓™\u00a0"  # fmt: skip
"""What the fonts of T1 and TS1 have, or LaTeX builds of them."""


def declarations() -> str:
    r"""The head's lines that declare them: `\DeclareUnicodeCharacter{2212}{\ensuremath{-}}` and so on."""
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
