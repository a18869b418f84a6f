"""A Hugging Face folder's tokenizer -> a vocabulary file of this house. Loads libraries when asked for one.

Here the special tokens are ids 0 to 4; there they stand anywhere (BERT's at 0 and 100 to 103). So ids are
permuted: those five first, all others behind them in their own order. Weights move along with them
(mlm.hugging_face), and back when a run is exported, which then fits the tokenizer's own files.

The text "[MASK]" is spelled out like any other, as with the vocabularies trained here.
"""

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlm import config, identity
from mlm.errors import InputError
from mlm.files import file_sha256, write_json

VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model")
FILES = (*VOCABULARIES, "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
"""What a tokenizer may consist of; one of the first is there."""
SPECIAL = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
"""What Hugging Face calls the tokens of config.SPECIAL_TOKENS."""
REMEDY = "give `tokenizer` the folder of a tokenizer for masked language models, as `save_pretrained` writes it"


def digest(folder: str) -> str:
    """What decides a prepared vocabulary: the tokenizer's files, and the code that reads them."""
    there = {name: file_sha256(path) for name in FILES if (path := Path(folder, name)).is_file()}
    return identity.digest(
        [there, identity.code_hash((__name__, "mlm.vocabulary"), ("tokenizers", "transformers"))]
    )


def is_in(folder: str) -> bool:
    """Whether a folder holds a tokenizer's vocabulary."""
    return any(Path(folder, name).is_file() for name in VOCABULARIES)


def prepare(folder: str, path: Path) -> None:
    """Write a folder's tokenizer to `path`, as the one file that `Tokenizer.read` reads.

    Raises:
        InputError: names what is wrong with the folder.
    """
    content = read(folder)
    Processor(json.dumps(content).encode(), folder)
    write_json(path, content)


def size(folder: str) -> int:
    """Tokens of a folder's tokenizer, special ones included."""
    return Processor(json.dumps(read(folder)).encode(), folder).get_piece_size()


def read(folder: str) -> dict[str, Any]:
    """Names of the special tokens, and the files that make up the tokenizer, as transformers reads it.

    Transformers decides, not tokenizer.json: its BertTokenizer, for one, takes lower case from
    tokenizer_config.json.
    """
    if not is_in(folder):  # transformers would make up an empty one
        raise InputError(f"tokenizer: {folder}: has none of {', '.join(VOCABULARIES)}; {REMEDY}")
    own = {name: path for name in FILES if (path := Path(folder, name)).is_file()}
    from transformers import AutoTokenizer, BertTokenizer

    # The first BERTs were vocab.txt and nothing else.
    described = own.keys() != {"vocab.txt"} or Path(folder, "config.json").exists()
    try:
        found = (AutoTokenizer if described else BertTokenizer).from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        with tempfile.TemporaryDirectory() as saved:
            found.save_pretrained(saved)
            files = {path.name: path.read_text(encoding="utf-8") for path in sorted(Path(saved).iterdir())}
    except Exception as error:  # whatever is wrong with a file shows in its own way
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"tokenizer: {folder}: transformers cannot read it ({reason}); {REMEDY}") from None
    if "tokenizer.json" not in files:
        raise InputError(f"tokenizer: {folder}: has no fast form, tokenizer.json; {REMEDY}")
    special = [getattr(found, name) for name in SPECIAL]
    if lacking := [name for name, token in zip(SPECIAL, special, strict=True) if token is None]:
        raise InputError(f"tokenizer: {folder}: has no {', '.join(lacking)}; {REMEDY}")
    for name, path in own.items():  # as they are, where that cannot contradict
        if name not in ("tokenizer.json", *files) and path.suffix in (".json", ".txt"):
            files[name] = path.read_text(encoding="utf-8")
    return {"special": special, "files": files}


class Processor:
    """A tokenizer under permuted ids, with those calls of SentencePiece's processor that we make."""

    def __init__(self, prepared: bytes, source: str = "vocabulary") -> None:
        from tokenizers import Tokenizer

        content = json.loads(prepared)
        self.special: list[str] = content["special"]
        self.files: dict[str, str] = content["files"]
        description = json.loads(self.files["tokenizer.json"])
        try:
            self.fast = Tokenizer.from_str(self.files["tokenizer.json"])
        except Exception as error:  # the library knows no other
            raise ValueError(str(error)) from None
        if dropout := description["model"].get("dropout"):
            raise InputError(
                f"tokenizer: {source}: leaves out merges at random (`dropout` {dropout:g} in "
                "tokenizer.json), so that a text has other tokens each time; set it to null there"
            )
        self.fast.no_truncation()
        self.fast.no_padding()
        self.fast.encode_special_tokens = True  # "[MASK]" in a text is three words of it
        known = {i: piece for piece, i in self.fast.get_vocab(with_added_tokens=True).items()}
        ids = {piece: i for i, piece in known.items()}
        first = [ids[token] for token in self.special if token in ids]
        if len(set(first)) < config.N_SPECIAL:
            told = ", ".join(f"{name} {token}" for name, token in zip(SPECIAL, self.special, strict=True))
            raise InputError(
                f"tokenizer: {source}: the special tokens are not five different ones in the vocabulary "
                f"({told}); {REMEDY}"
            )
        self.original = [*first, *sorted(set(range(max(known) + 1)) - set(first))]
        """Of each token, its id in the tokenizer's own files."""
        self._ours = [0] * len(self.original)
        for mine, theirs in enumerate(self.original):
            # Encoding adds no special token: one that comes out of a text all the same is no word.
            self._ours[theirs] = config.UNK if mine < config.N_SPECIAL else mine
        mark, inner = _marks(description)
        if mark is None and inner is None:
            raise InputError(f"tokenizer: {source}: its pieces do not tell where a word begins; {REMEDY}")
        ordinary = self.original[config.N_SPECIAL :]
        names = (known.get(i, f"[{i}]") for i in ordinary)  # some vocabularies have gaps
        self._pieces = [*config.SPECIAL_TOKENS, *(_spelled(name, mark, inner) for name in names)]
        self.sets_blank = mark is not None
        """Whether a text begins with a blank, though none was written."""
        self._blank = " " if mark and not self._begin().startswith(mark) else ""

    def _begin(self) -> str:
        text = self.fast.normalizer.normalize_str("a") if self.fast.normalizer else "a"
        parts = self.fast.pre_tokenizer.pre_tokenize_str(text) if self.fast.pre_tokenizer else [(text, None)]
        return str(parts[0][0])

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text; without special tokens."""
        marked = [self._blank + text if text and not text[0].isspace() else text for text in texts]
        found = self.fast.encode_batch_fast(marked, add_special_tokens=False)
        return [[self._ours[i] for i in one.ids] for one in found]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of token ids; special tokens vanish."""
        return str(self.fast.decode([self.original[i] for i in ids if i >= config.N_SPECIAL]))

    def get_piece_size(self) -> int:
        return len(self._pieces)

    def id_to_piece(self, token: int) -> str:
        """A piece as SentencePiece writes it: ▁ in front where a word begins, nothing where one goes on."""
        return self._pieces[token]


def _spelled(piece: str, mark: str | None, inner: str | None) -> str:
    if mark is not None:
        piece = piece.replace(mark, "▁")
    elif inner is not None and piece.startswith(inner) and piece != inner:
        piece = piece.removeprefix(inner)
    else:
        piece = f"▁{piece}"
    return piece.replace("\n", "⏎")  # a line end as a token of its own would be a vocabulary of characters


def _marks(description: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """What a piece begins with that begins a word, or else what one begins with that goes on with it."""
    before = [*_steps(description["normalizer"]), *_steps(description["pre_tokenizer"])]
    kinds = [step["type"] for step in before]
    if "Metaspace" in kinds or any(step.get("content") == "▁" for step in before):
        return "▁", None
    if "ByteLevel" in kinds:
        return "Ġ", None
    return None, description["model"].get("continuing_subword_prefix")


def _steps(part: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """A normaliser or pre-tokenizer and those in it."""
    if part is not None:
        yield part
        for inner in (*part.get("normalizers", ()), *part.get("pretokenizers", ())):
            yield from _steps(inner)
