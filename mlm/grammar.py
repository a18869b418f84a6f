"""Training text -> minimal pairs: two sentences that differ in one word, one grammatical and one not.

Pairs come in sets in which every choice is right as often as it is wrong: subjects are singular and
plural, nouns in between agree with the subject and do not, and so on. Whatever looks at the differing word
alone, or at the noun next to it, is right in half of a set. The file has the fields of BLiMP
(Warstadt et al. 2020, arXiv 1912.00582), so `read` reads either.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mlm import corpus
from mlm.errors import InputError
from mlm.files import write_atomically
from mlm.randomness import Purpose, generator

KINDS = {
    "agreement_plain": "subject_verb_agreement",
    "agreement_prepositional_phrase": "subject_verb_agreement",
    "agreement_relative_clause": "subject_verb_agreement",
    "determiner_noun": "determiner_noun_agreement",
    "anaphor": "anaphor_agreement",
}
"""Kind of pair -> the linguistics_term that BLiMP has for it."""

OCCURRENCES = 20
"""In the training text, of the rarer form of a word; a word seen less often is not used."""
MOST, FEWEST = 16, 4
"""Entries of a list that are used, the most frequent first, and that there must be."""

MEN = (
    "man men, king kings, lord lords, father fathers, brother brothers, son sons, husband husbands, "
    "gentleman gentlemen, prince princes, duke dukes, knight knights, boy boys, knave knaves, uncle uncles"
)
WOMEN = (
    "woman women, lady ladies, wife wives, daughter daughters, mother mothers, sister sisters, maid maids, "
    "queen queens, girl girls, widow widows, aunt aunts, princess princesses"
)
OTHERS = (
    "friend friends, soldier soldiers, child children, enemy enemies, master masters, servant servants, "
    "fool fools, lover lovers, thief thieves, traitor traitors, beggar beggars, citizen citizens, "
    "captain captains, officer officers, doctor doctors, player players, stranger strangers, "
    "student students, teacher teachers, worker workers, writer writers, member members, president presidents"
)
LISTS = {
    "men": MEN,
    "women": WOMEN,
    "nouns": f"{MEN}, {WOMEN}, {OTHERS}",
    "verbs that agree": "comes come, speaks speak, stands stand, lives live, goes go, sits sit, dies die, "
    "falls fall, sleeps sleep, stays stay, weeps weep, sings sing, runs run, smiles smile, looks look, "
    "works work, waits wait, grows grow",
    "verbs before a noun": "sent, brought, left, took, loved, kept, held, met, followed, served, struck",
    "verbs before a preposition": "came, went, stood, spoke, sat, fought, lay, fell, lived, worked, died",
    "verbs before a reflexive": "love, kill, know, hate, see, praise, help, hear, serve, follow, trust, find, "
    "keep, hold, save, show",
    "modals": "will, shall, must, may, can, could, would, should, might",
    "prepositions in a subject": "of, near, behind, beside, by, against",
    "prepositions in a predicate": "with, to, from, by, for, against, near",
    "pronouns": "He, She, They, We, I",
    "endings": "here, now, again, there, still, too, then",
}
"""Forms of a word are separated by a blank: nouns in singular and plural, verbs with he and they."""
FUNCTION_WORDS = ("The", "the", "who", "this", "these", "that", "those", "himself", "herself", "themselves")

Forms = tuple[str, ...]
Lexicon = dict[str, list[Forms]]
Sides = list[tuple[str, str]]


class Pair(NamedTuple):
    """A grammatical sentence and one that is not; `where` says file and line, for messages."""

    kind: str
    good: str
    bad: str
    where: str


def count_words(texts: Iterator[str]) -> Counter[str]:
    """Occurrences of each spelling, capitals distinguished as the vocabulary does."""
    found: Counter[str] = Counter()
    for text in texts:
        found.update(re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", text))
    return found


def choose(occurrences: Counter[str], where: str) -> Lexicon:
    """The words of each list that the training text shows most often.

    Raises:
        InputError: of a list too few are left, or a function word is too rare; names them all.
    """
    remedy = "take another corpus for this measure, or give a file of BLiMP"
    problems = [
        f"{where}: the grammar's word {word!r} occurs {occurrences[word]} times in the training text, "
        f"{OCCURRENCES} are needed; {remedy}"
        for word in FUNCTION_WORDS
        if occurrences[word] < OCCURRENCES
    ]
    lexicon: Lexicon = {}
    for name, listed in LISTS.items():
        entries = [tuple(entry.split()) for entry in listed.split(", ")]
        seen = {entry: min(occurrences[form] for form in entry) for entry in entries}
        frequent = sorted(entries, key=lambda entry: -seen[entry])[:MOST]
        lexicon[name] = [entry for entry in frequent if seen[entry] >= OCCURRENCES]
        if len(lexicon[name]) < FEWEST:
            left = ", ".join(" ".join(entry) for entry in lexicon[name]) or "none"
            problems.append(
                f"{where}: of the grammar's {name} {FEWEST} must occur {OCCURRENCES} times in the training "
                f"text, and {len(lexicon[name])} do ({left}); {remedy}"
            )
    if problems:
        raise InputError(*problems)
    return lexicon


def _plain(noun: Forms, verb: Forms, end: Forms) -> Sides:
    return [_agreement(f"The {noun[n]}", verb, n, end) for n in (0, 1)]


def _prepositional(noun: Forms, preposition: Forms, other: Forms, verb: Forms, end: Forms) -> Sides:
    subjects = product((0, 1), (0, 1))
    return [_agreement(f"The {noun[n]} {preposition[0]} the {other[m]}", verb, n, end) for n, m in subjects]


def _relative(noun: Forms, seen: Forms, other: Forms, verb: Forms, end: Forms) -> Sides:
    # The verb in the clause is past, which has no number, and none that a bare clause could follow.
    subjects = product((0, 1), (0, 1))
    return [_agreement(f"The {noun[n]} who {seen[0]} the {other[m]}", verb, n, end) for n, m in subjects]


def _agreement(subject: str, verb: Forms, number: int, end: Forms) -> tuple[str, str]:
    return f"{subject} {verb[number]} {end[0]}.", f"{subject} {verb[1 - number]} {end[0]}."


def _determiner(pronoun: Forms, verb: Forms, preposition: Forms, noun: Forms, end: Forms) -> Sides:
    def sentence(determiner: str, number: int) -> str:
        # Behind a preposition, where "that" begins no clause.
        return f"{pronoun[0]} {verb[0]} {preposition[0]} {determiner} {noun[number]} {end[0]}."

    determiners = product((("this", "these"), ("that", "those")), (0, 1))
    return [(sentence(both[n], n), sentence(both[1 - n], n)) for both, n in determiners]


def _anaphor(man: Forms, woman: Forms, modal: Forms, verb: Forms, end: Forms) -> Sides:
    def sentence(noun: str, reflexive: str) -> str:
        return f"The {noun} {modal[0]} {verb[0]} {reflexive} {end[0]}."  # the modal has no number

    # Each reflexive is twice right and twice wrong, once against either other.
    he, she, they = "himself", "herself", "themselves"
    choices = [(man[0], he, they), (man[1], they, he), (woman[0], she, they), (woman[1], they, she),
               (man[0], he, she), (woman[0], she, he)]  # fmt: skip
    return [(sentence(noun, good), sentence(noun, bad)) for noun, good, bad in choices]


TEMPLATES: dict[str, tuple[Callable[..., Sides], tuple[str, ...]]] = {
    "agreement_plain": (_plain, ("nouns", "verbs that agree", "endings")),
    "agreement_prepositional_phrase": (
        _prepositional, ("nouns", "prepositions in a subject", "nouns", "verbs that agree", "endings"),
    ),
    "agreement_relative_clause": (
        _relative, ("nouns", "verbs before a noun", "nouns", "verbs that agree", "endings"),
    ),
    "determiner_noun": (
        _determiner,
        ("pronouns", "verbs before a preposition", "prepositions in a predicate", "nouns", "endings"),
    ),
    "anaphor": (_anaphor, ("men", "women", "modals", "verbs before a reflexive", "endings")),
}  # fmt: skip
"""Kind -> what makes a set of pairs of words, and the lists that the words come from."""


def generate(lexicon: Lexicon, per_kind: int) -> list[tuple[str, str, str]]:
    """(kind, good, bad) of at least `per_kind` pairs a kind, in whole sets, none of them twice.

    Raises:
        InputError: the words allow fewer.
    """
    result: list[tuple[str, str, str]] = []
    for kind, (template, lists) in TEMPLATES.items():
        sizes = [len(lexicon[name]) for name in lists]
        pairs: dict[tuple[str, str, str], None] = {}
        for number in generator(0, Purpose.PAIRS, name=kind).permutation(math.prod(sizes)):
            if len(pairs) >= per_kind:
                break
            places = np.unravel_index(number, sizes)
            words = [lexicon[name][place] for name, place in zip(lists, places, strict=True)]
            made = [(kind, good, bad) for good, bad in template(*words)]
            # A set is taken whole or not at all: only whole ones are balanced.
            if len(set(words)) == len(words) and pairs.keys().isdisjoint(made):
                pairs |= dict.fromkeys(made)
        if len(pairs) < per_kind:
            raise InputError(
                f"--per-kind {per_kind}: so many pairs a kind are asked for, and the words allow "
                f"{len(pairs)} of {kind}; ask for fewer"
            )
        result += pairs
    return result


def of_corpus(corpus_folder: Path, per_kind: int) -> list[Pair]:
    """At least `per_kind` pairs a kind, of words that the corpus's training split shows often."""
    corpus.verify(corpus_folder)
    occurrences = count_words(text for _, text in corpus.read(corpus_folder, "train"))
    lexicon = choose(occurrences, str(corpus_folder / "train.jsonl"))
    made = generate(lexicon, per_kind)
    return [Pair(*pair, f"pair {number}") for number, pair in enumerate(made, start=1)]


def write(pairs: list[Pair], path: Path) -> None:
    """Write a file of pairs in BLiMP's format."""
    lines = [
        {"sentence_good": pair.good, "sentence_bad": pair.bad, "linguistics_term": KINDS.get(pair.kind, ""),
         "UID": pair.kind, "pairID": str(number)}
        for number, pair in enumerate(pairs)
    ]  # fmt: skip
    write_atomically(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def files(path: Path) -> list[Path]:
    """A file of pairs, or all .jsonl files of a folder.

    Raises:
        InputError: there is none.
    """
    if path.is_dir():
        return sorted(path.glob("*.jsonl"))
    if not path.exists():
        raise InputError(f"{path}: no such file; `python -m mlm grammar CORPUS {path}` writes one")
    return [path]


def read(path: Path) -> list[Pair]:
    """Pairs of a file in BLiMP's format, or of all .jsonl files of a folder.

    Raises:
        InputError: there is no pair, or a line is not one; names file and line.
    """
    pairs = [pair for file in files(path) for pair in _read(file)]
    if not pairs:
        raise InputError(f"{path}: holds no pair; give one of BLiMP's .jsonl files, or a folder of them")
    return pairs


def _read(path: Path) -> Iterator[Pair]:
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        where = f"{path}, line {number}"
        try:
            record = json.loads(line)
            kind, good, bad = (record[key].strip() for key in ("UID", "sentence_good", "sentence_bad"))
        except (ValueError, KeyError, TypeError, AttributeError):
            kind = good = bad = ""
        if not (kind and good and bad):
            raise InputError(
                f"{where}: not a pair; a line is a JSON object with the texts sentence_good, sentence_bad "
                "and UID, as in BLiMP; mend it or take it out"
            )
        if good == bad:
            raise InputError(f"{where}: both sentences are the same; take the line out")
        yield Pair(kind, good, bad, where)
