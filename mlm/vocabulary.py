"""Text -> SentencePiece model (Kudo & Richardson 2018, arXiv 1808.06226), the same bytes every time."""

import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import sentencepiece

from mlm import config, corpus
from mlm.duplicates import fingerprint
from mlm.errors import Damaged, InputError
from mlm.files import write_atomically

TRAINING_CHARACTERS = 50_000_000
"""Of a longer text, lines are drawn that come to about this much before the trainer sees it."""
LINE_BYTES = 4 * corpus.PART_CHARACTERS
"""The trainer leaves out what is longer."""
THREADS = 16
"""A constant: the trainer's bytes depend on it. More than there are cores does no harm."""


class Tokenizer:
    """A vocabulary: a SentencePiece model that was trained here, or a Hugging Face folder's tokenizer.

    Ids 0 to 4 are [PAD] [UNK] [CLS] [SEP] [MASK]; they are control symbols, so the text "[MASK]"
    is spelled out like any other and never becomes the mask. Pieces that begin a word begin with ▁.

    >>> tokenizer = Tokenizer.read(Path("vocabulary.model"))  # doctest: +SKIP
    >>> tokenizer.decode(tokenizer.encode("Shall I compare thee"))  # doctest: +SKIP
    'Shall I compare thee'
    """

    def __init__(self, model: bytes) -> None:
        self.processor: Any
        if model.startswith(b"{"):  # JSON; a SentencePiece model begins with a line feed
            from mlm.hugging_face_tokenizer import Processor

            self.processor = Processor(model)
            self._sets_blank = self.processor.sets_blank
        else:
            self.processor = sentencepiece.SentencePieceProcessor(model_proto=model)
            self._sets_blank = self.processor.piece_to_id("\n") == config.UNK
        self.model = model
        self.sha256 = hashlib.sha256(model).hexdigest()
        self.size: int = self.processor.get_piece_size()
        self.pieces: list[str] = [self.processor.id_to_piece(i) for i in range(self.size)]
        if tuple(self.pieces[: config.N_SPECIAL]) != config.SPECIAL_TOKENS:
            raise Damaged(f"vocabulary: ids 0 to 4 are {self.pieces[:5]}, not {config.SPECIAL_TOKENS}")
        self.keeps_line_ends = "\n" in self.pieces
        self.begins_word: list[bool] = [piece[0] in "▁\n" for piece in self.pieces]
        """Of each token, whether a word begins with it."""
        self.original: list[int] = getattr(self.processor, "original", list(range(self.size)))
        """Of each token, its id in a Hugging Face folder that goes with this vocabulary."""

    @classmethod
    def read(cls, path: Path) -> "Tokenizer":
        """Load a model file; damage is named."""
        try:
            if not (model := path.read_bytes()):
                raise ValueError("it is empty")  # SentencePiece would take it
            return cls(model)
        except (OSError, RuntimeError, ValueError, KeyError, Damaged) as error:
            reason = str(error).splitlines()[0]
            raise Damaged(f"{path}: not a vocabulary ({reason}); delete it and run again") from None

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; without special tokens."""
        return [i for ids in self.encode_lines(text) for i in ids]

    def encode_lines(self, text: str) -> list[list[int]]:
        """Token ids of each line of a text, in characters the line end's too.

        Together they are the encoding of the whole text, in bounded memory: the normaliser would turn
        a line end into a blank, or it is a token of its own, and pieces never cross either.
        """
        lines: list[list[int]] = self.processor.encode(text.split("\n"))
        if self.keeps_line_ends:
            end = self.processor.piece_to_id("\n")
            for ids in lines[:-1]:
                ids.append(end)
        return lines

    def encode_joined(self, text: str) -> list[int]:
        """Token ids of a text before which no blank was written."""
        ids = self.encode(text)
        if not ids or text[0].isspace() or not self._sets_blank:
            return ids
        bare = self.pieces[ids[0]].removeprefix("▁")  # a blank is set before every text
        if not bare:
            return ids[1:]
        return [self.pieces.index(bare), *ids[1:]] if bare in self.pieces else ids

    def encode_words(self, words: Sequence[str]) -> list[list[int]]:
        """Token ids of each word as it stands behind a blank."""
        if self.keeps_line_ends:
            return [list(self.processor.encode(" " + word)) for word in words]
        return [list(ids) for ids in self.processor.encode(list(words))]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of token ids; special tokens vanish."""
        return str(self.processor.decode(list(ids)))


def train(lines: Iterable[str], wanted: config.Vocabulary, declared_in: str) -> bytes:
    """The model's bytes, a function of the lines and the configuration alone.

    Raises:
        InputError: the text supports no vocabulary of this size; names the size that it does.
    """
    model = io.BytesIO()
    # Characters need the identity normaliser: NFKC would drop line ends and runs of blanks.
    characters: dict[str, Any] = {
        "normalization_rule_name": "identity",
        "add_dummy_prefix": False,
        "remove_extra_whitespaces": False,
        "user_defined_symbols": ["\n"],
    }
    seen = {"\n"}

    def noted() -> Iterator[str]:
        for line in lines:
            for piece in _acceptable(line):
                seen.update(piece.replace("\0", "").replace("▁", " "))  # as the trainer does
                yield piece

    try:
        sentencepiece.SentencePieceTrainer.train(
            # An iterator and a stream: a path would be written into the model.
            sentence_iterator=noted(),
            model_writer=model,
            model_type=wanted.kind,
            vocab_size=wanted.size,
            num_threads=THREADS,
            pad_id=config.PAD,
            unk_id=config.UNK,
            bos_id=config.CLS,
            eos_id=config.SEP,
            pad_piece="[PAD]",
            unk_piece="[UNK]",
            bos_piece="[CLS]",
            eos_piece="[SEP]",
            control_symbols=["[MASK]"],
            character_coverage=1.0,
            max_sentence_length=LINE_BYTES,
            minloglevel=2,
            **(characters if wanted.kind == "char" else {}),
        )
    except RuntimeError as error:
        said = str(error)
        if found := re.search(r"value <= (\d+)", said):
            raise InputError(
                f"{declared_in}: vocabulary.size: {wanted.size} is more than this text supports; "
                f"the largest {wanted.kind} vocabulary that it can have is {found[1]}"
            ) from None
        if found := re.search(r"required_chars\. \d+ vs (\d+)", said):
            raise InputError(_too_small(declared_in, wanted, int(found[1]))) from None
        raise InputError(f"{declared_in}: vocabulary: SentencePiece refused: {said}") from None
    size = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()).get_piece_size()
    # The character trainer says nothing when it leaves characters out, or runs out of them.
    if wanted.kind == "char" and wanted.size < (needed := len(seen) + config.N_SPECIAL):
        raise InputError(_too_small(declared_in, wanted, needed))
    if size != wanted.size:
        raise InputError(
            f"{declared_in}: vocabulary.size: {wanted.size} is more than this text supports; "
            f"the largest {wanted.kind} vocabulary that it can have is {size}"
        )
    return model.getvalue()


def _acceptable(line: str) -> Iterator[str]:
    """A line in pieces that the trainer takes: it leaves out a long line, and one with its mark for unknowns.

    That mark, ▅, is no character of any vocabulary.
    """
    for piece in line.split("▅"):
        if len(piece.encode()) <= LINE_BYTES:
            yield piece
        else:
            most = LINE_BYTES // 4
            yield from (piece[begin : begin + most] for begin in range(0, len(piece), most))


def _too_small(declared_in: str, wanted: config.Vocabulary, needed: int) -> str:
    return (
        f"{declared_in}: vocabulary.size: {wanted.size} is too small for the characters of this text; the "
        f"smallest {wanted.kind} vocabulary is {needed}"
    )


def prepare(wanted: config.Vocabulary, corpus_folder: Path, path: Path, declared_in: str) -> None:
    """Train on the training split of a prepared corpus and write the model to `path`."""
    corpus.verify(corpus_folder)
    characters = sum(len(text) for _, text in corpus.read(corpus_folder, "train"))
    stride = max(1, -(-characters // TRAINING_CHARACTERS))
    lines = _lines(corpus_folder, stride, whole_alphabet=wanted.kind == "char")
    write_atomically(path, train(lines, wanted, declared_in))


def _lines(folder: Path, stride: int, whole_alphabet: bool) -> Iterator[str]:
    """About one of `stride` lines that hold something, and of an alphabet each that brings a new character.

    A line is drawn by the hash of its number: text often has a rhythm, such as a title in every other line.
    """
    met: set[str] = set()
    texts = (line for _, text in corpus.read(folder, "train") for line in text.split("\n"))
    for number, line in enumerate(line for line in texts if line.strip()):
        drawn = int.from_bytes(fingerprint(str(number)), "big") % stride == 0
        if drawn or (whole_alphabet and not met.issuperset(line)):
            met.update(line)
            yield line
