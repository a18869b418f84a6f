import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from mlm import (
    config,
    golden,
    golden_run,
    identity,
    masking,
    model,
    objectives,
    plugins,
    schedules,
    shards,
    train,
)
from mlm.encoder import Encoder
from mlm.errors import InputError
from mlm.randomness import Purpose, generator, uniform
from mlm.train import Trainer
from mlm.vocabulary import Tokenizer
from tests import PATIENCE_SECONDS
from tests.mlm import training
from tests.mlm.places import ROOT

BLOCKS = re.findall(
    r"^```(\w+)\n(.*?)^```", (ROOT / "docs" / "plugins.md").read_text(), re.MULTILINE | re.DOTALL
)
EXAMPLE = next(text for language, text in BLOCKS if language == "python")
ARMS = yaml.safe_load(next(text for language, text in BLOCKS if language == "yaml"))["arms"]

OTHERS = '''
import torch
from mlm import encoder, objectives

RATE = 3

def eased(progress):
    return progress * progress

class Eased:
    def __call__(self, progress):
        return progress * progress

class Tokens:
    """Masked tokens, and one more term: the squared logits."""

    def counts(self, batch):
        return {"tokens": batch.real.sum(), "size": batch.real.sum()}

    def sums(self, encoder, batch, uniform):
        logits = encoder(batch.inputs, at=batch.at, visible=batch.visible, uniform=uniform)
        losses = objectives.cross_entropies(logits, batch.targets)
        size = logits.float().square().mean(-1)
        return {"tokens": (losses * batch.real).sum(), "size": (size * batch.real).sum()}

def norms(encoder, tokenizer, run):
    length = encoder.embedding.detach().norm()
    return {"embedding": length, "layers": run.encoder.layers, "pieces.all": tokenizer.size}

class Turned(Tokens):
    def sums(self, encoder, batch, uniform):
        return dict(reversed(super().sums(encoder, batch, uniform).items()))

class Halved(encoder.Encoder):
    def logits(self, x):
        return super().logits(x) / 2
'''


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder outside the repository with the package my_lab; what was imported from it is forgotten."""

    def forget() -> None:
        plugins._load.cache_clear()
        for name in [name for name in sys.modules if name.split(".")[0] in ("my_lab", "beside", "other")]:
            del sys.modules[name]

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MLM_GOLDEN", str(tmp_path / "golden"))  # nothing has been checked yet
    write(tmp_path / "my_lab" / "__init__.py", "")
    write(tmp_path / "my_lab" / "masking.py", EXAMPLE)
    write(tmp_path / "my_lab" / "others.py", OTHERS)
    forget()
    yield tmp_path
    forget()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(textwrap.dedent(text))


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        call()
    return str(caught.value)


def small(**changes: object) -> config.Run:
    encoder = {"width": 32, "heads": 2, **changes.pop("encoder", {})}  # type: ignore[dict-item]
    return config.Run.model_validate({"encoder": encoder, **changes})


def test_the_documents_example_is_20_lines_and_selects_stripes_at_about_the_rate(lab: Path) -> None:
    run = small(**ARMS["diagonal"])
    assert len([line for line in EXAMPLE.splitlines() if line.strip()]) <= 20
    assert {**ARMS["diagonal"]["masking"], "strategy": None} == {
        **ARMS["independent"]["masking"],
        "strategy": None,
    }
    plugins.check(run, "here")
    tokens = torch.randint(0, 90, (40, 50), generator=torch.Generator().manual_seed(0))
    before = tokens.clone()
    corrupt = masking.strategy(run.masking)
    given = {"n_tokens": 90, "begins_word": torch.ones(90, dtype=torch.bool), "step": 3}
    made = corrupt(tokens, run.masking, uniform(generator(0, Purpose.MASKING, 3)), **given)
    again = corrupt(tokens, run.masking, uniform(generator(0, Purpose.MASKING, 3)), **given)
    assert all(torch.equal(a, b) for a, b in zip(made[:4], again[:4], strict=True))
    assert torch.equal(tokens, before)
    ordinary = tokens >= config.N_SPECIAL
    assert not (made.selected & ~ordinary).any()
    assert made.selected.sum() / ordinary.sum() == pytest.approx(0.2, abs=0.01)
    assert torch.equal(made.inputs, torch.where(made.selected, config.MASK, tokens))
    rows, columns = made.selected.nonzero(as_tuple=True)
    assert len(set(((rows + columns) % 5).tolist())) == 1  # one diagonal of five
    batch = objectives.batch(tokens, made, causal=False)
    assert torch.equal(batch.targets, tokens.gather(1, batch.at))


def test_a_schedule_by_path_moves_rate_length_and_learning_rate(lab: Path) -> None:
    for name in ("eased", "Eased"):
        path = f"my_lab.others:{name}"
        plugins.check_schedule(path, "here")
        stated = config.Masking(rate=0.5, change=config.Change(shape=path, rate=0.1))
        assert [schedules.masking(stated, p).rate for p in (0.0, 0.5, 1.0)] == pytest.approx([0.5, 0.4, 0.1])
        growth = config.Growth(shape=path, values=[16, 32, 64], until=0.99)
        assert [schedules.grown(growth, p) for p in (0.0, 0.5, 0.6, 1.0)] == [16, 16, 32, 64]
        decay = config.Optimizer(learning_rate=1.0, decay_tokens=100, decay_shape=path)
        assert schedules.learning_rate(decay, 100, 50, 60) == pytest.approx(0.25)


def test_an_objective_and_an_encoder_by_path_are_trained_with(
    lab: Path, vocabularies: dict[str, Tokenizer]
) -> None:
    run = small(objective="my_lab.others:Tokens", encoder={"architecture": "my_lab.others:Halved"})
    plugins.check(run, "here")
    tokenizer = vocabularies["bpe"]
    ours = model.build(small(), tokenizer.size, torch.float32)
    theirs = model.build(run, tokenizer.size, torch.float32)
    tokens = torch.randint(5, tokenizer.size, (4, 12), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(theirs(tokens), ours(tokens) / 2)
    draws = uniform(generator(0, Purpose.MASKING, 0))
    batch = objectives.batch(tokens, masking.corrupt(tokens, run.masking, draws, n_tokens=600), causal=False)
    objective = objectives.objective(run)
    loss = objectives.mean_loss(objective.sums(theirs, batch, None), objective.counts(batch))
    built_in = objectives.objective(small())
    plain = objectives.mean_loss(built_in.sums(theirs, batch, None), built_in.counts(batch))
    size = theirs(batch.inputs, at=batch.at).square().mean(-1)[batch.real].mean()
    torch.testing.assert_close(loss, plain + size)


def test_terms_are_told_by_name_in_whatever_order_they_come(lab: Path, data: dict[str, shards.Shard]) -> None:
    """Sums and counts are both mappings: neither the loss nor what is told of its terms depends on an order."""
    found = []
    for name in ("Tokens", "Turned"):
        run = training.small(small(), objective=f"my_lab.others:{name}", batch_size=4, sequence_length=16,
                             budget_tokens=64 * 4, curve={"sequences": 4})  # fmt: skip
        made = training.trainer(run, data)
        told = train._gather([made.step(0), made.step(1)], made.group)
        found.append(train._training_record(run, 1, told))
    assert found[0] == found[1]
    assert found[0]["tokens_loss_nats"] != found[0]["size_loss_nats"]


@pytest.mark.parametrize("kind", [4, -1, 0])
def test_a_strategy_whose_kinds_are_none_is_refused(lab: Path, kind: int) -> None:
    write(
        lab / "my_lab" / "odd.py",
        EXAMPLE.replace("selected.to(torch.int8)", f"selected.to(torch.int8) * {kind}"),
    )
    run = small(masking={"strategy": "my_lab.odd:Diagonal"})
    tokens, draws = torch.full((4, 20), 7), uniform(generator(0, Purpose.MASKING))
    given = {"n_tokens": 90, "begins_word": torch.ones(90, dtype=torch.bool), "step": 0}
    said = refusal(lambda: masking.strategy(run.masking)(tokens, run.masking, draws, **given))
    assert said.startswith("masking.strategy: my_lab.odd:Diagonal: gives kinds ")
    assert "`kind` must be 0 where `selected` is False, and else 1 (shown [MASK]), 2" in said


IN_PLACE = """
import torch
from mlm import config
from mlm.masking import Corrupted

def written(tokens, masking, uniform, *, n_tokens, begins_word, step):
    selected = tokens == 7
    tokens[selected] = config.MASK
    return Corrupted(tokens, selected, selected, selected.to(torch.int8))
"""


def test_a_strategy_that_writes_into_the_tokens_writes_no_targets(lab: Path) -> None:
    write(lab / "my_lab" / "writes.py", IN_PLACE)
    run = small(masking={"strategy": "my_lab.writes:written"})
    tokens, draws = torch.full((4, 20), 7), uniform(generator(0, Purpose.MASKING))
    given = {"n_tokens": 90, "begins_word": torch.ones(90, dtype=torch.bool), "step": 0}
    corrupted = masking.strategy(run.masking)(tokens, run.masking, draws, **given)
    assert (corrupted.inputs == config.MASK).all() and (tokens == 7).all()


def test_a_run_of_nothing_but_plug_ins_trains_and_its_bits_do_not_depend_on_what_came_before(
    lab: Path, vocabularies: dict[str, Tokenizer]
) -> None:
    eased = "my_lab.others:eased"
    run = small(
        masking={"rate": 0.5, "strategy": "my_lab.masking:Diagonal", "change": {"shape": eased, "rate": 0.1}},
        objective="my_lab.others:Tokens",
        encoder={"architecture": "my_lab.others:Halved"},
        optimizer={"decay_shape": eased, "decay_tokens": 1024},
        lengths={"shape": eased, "values": [16, 32, 64]},
        attention={"window": {"shape": eased, "values": [4, 8]}},
        batch_size=8,
        micro_batch=4,
        budget_tokens=6 * 512,
    )
    plugins.check(run, "here")
    tokenizer = vocabularies["bpe"]
    tokens = np.random.default_rng(0).integers(5, tokenizer.size, 4096).astype(np.uint16)
    shard = shards.Shard(tokens, np.array([0, 4096]), np.array([0]))

    def trained() -> tuple[torch.Tensor, list[int]]:
        plugins._load.cache_clear()  # a process of its own has objects of its own
        encoder = model.build(run, tokenizer.size, torch.float32)
        begins_word = [True] * tokenizer.size
        trainer = Trainer(run, {"train": shard, "validation": shard}, begins_word, encoder)
        steps = [trainer.step(number) for number in range(run.steps)]
        assert set(trainer.validate()) == {"yardstick", "own"}
        return encoder.embedding.detach(), [int(step.counts[-1]) for step in steps]

    weights, predicted = trained()
    again, _ = trained()
    assert torch.equal(weights, again)
    rates = [schedules.masking(run.masking, number / 5).rate for number in range(6)]
    assert [n / 512 for n in predicted] == pytest.approx([1 / round(1 / rate) for rate in rates], abs=0.03)


def test_a_probe_measures_and_its_values_are_finite_numbers(
    lab: Path, vocabularies: dict[str, Tokenizer]
) -> None:
    run, tokenizer = small(), vocabularies["bpe"]
    encoder = model.build(run, tokenizer.size, torch.float32)

    def taken(name: str) -> dict[str, float]:
        return plugins.take_probe(
            f"my_lab.{name}", encoder, tokenizer, run, "scale.yaml: measures.plugins.mine"
        )

    values = taken("others:norms")
    assert values == {
        "embedding": float(encoder.embedding.detach().norm()),
        "layers": 2.0,
        "pieces.all": float(tokenizer.size),
    }
    assert all(type(value) is float for value in values.values())
    bad = {
        "float('nan')": "mine: my_lab.bad:bad0: depth is nan; give a finite number",
        "None": "depth is None; give a finite number",
        "float('inf')": "depth is inf",
        "torch.zeros(2)": "depth is tensor",
    }
    lines = [f"def bad{i}(encoder, tokenizer, run): return dict(depth={text})" for i, text in enumerate(bad)]
    more = [
        "def empty(encoder, tokenizer, run): return {}",
        "def odd(encoder, tokenizer, run): return {'a b': 1}",
    ]
    write(lab / "my_lab" / "bad.py", "\n".join(["import torch", *lines, *more]))
    for i, message in enumerate(bad.values()):
        assert message in refusal(lambda i=i: taken(f"bad:bad{i}"))  # type: ignore[misc]
    assert "gives {}; it must give a dictionary of numbers" in refusal(lambda: taken("bad:empty"))
    assert "key 'a b'; use letters" in refusal(lambda: taken("bad:odd"))


UNTRUE = """
import torch
from mlm import config
from mlm.masking import Corrupted

def told(tokens, kind, shown, stray=False):
    selected = tokens == 7
    inputs = torch.where(selected, shown, tokens)
    predicted = selected.clone()
    if stray:
        predicted[0, 0] = True
    return Corrupted(inputs, selected, predicted, selected.to(torch.int8) * kind)

def masks(tokens, masking, uniform, *, n_tokens, begins_word, step):
    return told(tokens, 1, 9)
def same(tokens, masking, uniform, *, n_tokens, begins_word, step):
    return told(tokens, 2, 9)
def beside(tokens, masking, uniform, *, n_tokens, begins_word, step):
    made = told(tokens, 1, config.MASK)
    made.inputs[1, 2] = 9
    return made
def more(tokens, masking, uniform, *, n_tokens, begins_word, step):
    return told(tokens, 1, config.MASK, stray=True)
def random(tokens, masking, uniform, *, n_tokens, begins_word, step):
    return told(tokens, 3, 7)
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("masks", "at row 1, position 3 `kind` is 1 (shown [MASK]), and its input is not [MASK]"),
        ("same", "at row 1, position 3 `kind` is 2 (the same), and its input is another token"),
        ("beside", "at row 1, position 2 `kind` is 0 (not selected), and its input is another token"),
        ("more", "at row 0, position 0 `predicted` is True and `selected` is not; predict what is selected"),
        ("random", None),  # a random token may be the one that was there
    ],
)
def test_what_a_strategy_says_of_its_inputs_is_true_of_them(lab: Path, name: str, said: str | None) -> None:
    """What was drawn is counted by `kind`: shares of [MASK] that are not there would stand in every table."""
    write(lab / "my_lab" / "untrue.py", UNTRUE)
    masked = small(masking={"strategy": f"my_lab.untrue:{name}"}).masking
    tokens, draws = torch.full((2, 6), 8), uniform(generator(0, Purpose.MASKING))
    tokens[1, 3] = 7
    given = {"n_tokens": 90, "begins_word": torch.ones(90, dtype=torch.bool), "step": 0}
    if said is None:
        assert masking.strategy(masked)(tokens, masked, draws, **given).kind[1, 3] == 3
    else:
        assert said in refusal(lambda: masking.strategy(masked)(tokens, masked, draws, **given))


DIFFERENT = """
import random
import numpy as np
import torch
from mlm import encoder
from mlm.errors import InputError
from mlm.masking import corrupt

torch.manual_seed(0)  # does no harm
OWN = np.random.default_rng()

def shuffled(tokens, masking, uniform, *, draw, **stated):
    made = corrupt(tokens, masking, uniform, **stated)
    left_out = int(draw * tokens.shape[1])
    return made._replace(predicted=made.predicted & (torch.arange(tokens.shape[1]) != left_out))
def torchs(tokens, masking, uniform, *, n_tokens, begins_word, step):
    return shuffled(tokens, masking, uniform, draw=torch.rand(1), n_tokens=n_tokens, begins_word=begins_word)
def numpys(tokens, masking, uniform, *, n_tokens, begins_word, step):
    return shuffled(tokens, masking, uniform, draw=OWN.random(), n_tokens=n_tokens, begins_word=begins_word)
def pythons(progress):
    return progress if progress in (0, 1) else random.random()
class Counting:
    seen = 0
    def __call__(self, tokens, masking, uniform, *, n_tokens, begins_word, step):
        self.seen += 1
        draw = self.seen % 37 / 37
        return shuffled(tokens, masking, uniform, draw=draw, n_tokens=n_tokens, begins_word=begins_word)
def harmless(tokens, masking, uniform, *, n_tokens, begins_word, step):
    torch.rand(1)
    return corrupt(tokens, masking, uniform, n_tokens=n_tokens, begins_word=begins_word)
def narrow(tokens, masking, uniform, *, n_tokens, begins_word, step):
    raise InputError("not so short")
class Unseeded(encoder.Encoder):
    def __init__(self, options, n_tokens, seed, dtype):
        super().__init__(options, n_tokens, seed, dtype)
        torch.nn.init.normal_(self.embedding, std=.02)
"""


@pytest.mark.parametrize(
    "changes",
    [
        {"masking": {"strategy": "my_lab.different:torchs"}},
        {"masking": {"strategy": "my_lab.different:numpys"}},
        {"masking": {"strategy": "my_lab.different:Counting"}},
        {"optimizer": {"decay_shape": "my_lab.different:pythons", "decay_tokens": 4096}},
        {"encoder": {"architecture": "my_lab.different:Unseeded"}},
    ],
)
def test_what_comes_to_other_bits_each_time_is_refused_by_its_golden_run(
    lab: Path, changes: dict[str, Any]
) -> None:
    write(lab / "my_lab" / "different.py", DIFFERENT)
    said = refusal(lambda: golden_run.bits(golden.tiny(small(**changes)), "float32"))
    assert "comes to other bits when the same run is made again" in said
    alike = golden.tiny(small(masking={"strategy": "my_lab.different:harmless"}))
    assert golden_run.bits(alike, "float32") == golden_run.bits(golden.tiny(small()), "float32")


def test_a_refused_golden_run_is_refused_when_it_is_planned(
    lab: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(lab / "my_lab" / "different.py", DIFFERENT)
    monkeypatch.setenv("PYTHONPATH", f"{lab}:{ROOT}")  # in the process that computes it, too
    asked = [
        (run, plugins.digests(run))
        for run in (small(masking={"strategy": f"my_lab.different:{name}"}) for name in ("narrow", "torchs"))
    ]
    numerics = config.Numerics(device="cpu", dtype="float32")
    assert "told above, is put right" in refusal(lambda: golden.codes(numerics, asked))
    told = capfd.readouterr().err
    assert "note: my_lab.different:narrow: fails in a golden run (InputError: not so short)" in told
    assert "error: my_lab.different:torchs: comes to other bits when the same run is made again" in told
    assert "Traceback" not in told


def test_a_probe_that_changes_the_encoder_changes_no_other_measure(
    lab: Path, vocabularies: dict[str, Tokenizer]
) -> None:
    spoil = "def spoil(encoder, tokenizer, run):\n    encoder.embedding.data.zero_()\n    return {'x': 0}\n"
    write(lab / "my_lab" / "spoiling.py", spoil)
    run, tokenizer = small(), vocabularies["bpe"]
    encoder = model.build(run, tokenizer.size, torch.float32)
    before = encoder.embedding.detach().clone()
    assert plugins.take_probe("my_lab.spoiling:spoil", encoder, tokenizer, run, "here") == {"x": 0.0}
    assert torch.equal(encoder.embedding, before)
    encoder.cached = encoder.embedding * 1
    said = refusal(lambda: plugins.take_probe("my_lab.spoiling:spoil", encoder, tokenizer, run, "here"))
    assert said.startswith(
        "here: my_lab.spoiling:spoil: is given a copy of the encoder, and transformer cannot"
    )


REFUSED = """
no_lab.masking:D | strategy | there is no module `no_lab`; correct the path, or add the folder that `no_lab`
my_lab.maskin:D | strategy | there is no module `my_lab.maskin`;
my_lab.masking:Diagnol | strategy | `my_lab.masking` has no `Diagnol`; near are: Diagonal
my_lab.others:zzz | schedule | `my_lab.others` has no `zzz`; there are: RATE, eased, Eased, Tokens,
my_lab.others:RATE | schedule | `RATE(progress)` will be called, but `RATE` is of type int; give one that can be
my_lab.others:eased | strategy | begins_word, step)` will be called, but its parameters are (progress); change
my_lab.masking:Diagonal | probe | `Diagonal(encoder, tokenizer, run)` will be called, but its parameters are
my_lab.others:eased | objective | `eased.counts(batch)` will be called, but `eased` has no `counts`;
my_lab.wrong:Half | objective | `Half.sums(encoder, batch, uniform)` will be called, but its parameters are
my_lab.others:Eased | encoder | `Eased` must be a class, most simply a subclass of mlm.encoder.Encoder
my_lab.others:eased | encoder | `eased` must be a class
torch.nn:Identity | encoder | segments=None, uniform=None)` will be called, but `Identity` has no `hidden`;
my_lab.wrong:Fixed | encoder | `Fixed(options, n_tokens, seed, dtype)` will be called, but its parameters are
my_lab.wrong:Narrow | encoder | but its parameters are (tokens, *, at=None); change them
my_lab.wrong:Greedy | encoder | but its parameters are (tokens, *, at, visible, segments, uniform); change them
my_lab.wrong:Needy | schedule | `Needy()`, without arguments, fails with TypeError: Needy.__init__() missing 1
my_lab.wrong:Failing | schedule | with ZeroDivisionError: division by zero ({lab}/my_lab/wrong.py, line 17);
builtins:max | schedule | the parameters of `max` cannot be read; wrap it in a function
builtins:abs | schedule | `builtins` has no Python source to make a digest of; wrap it in a function
my_lab.broken:f | schedule | with SyntaxError: '(' was never closed ({lab}/my_lab/broken.py, line 2); correct
my_lab.missing:f | schedule | No module named 'no_such_package' ({lab}/my_lab/missing.py, line 2); correct it
my_lab.deep:f | schedule | JSONDecodeError: Expecting value: line 1 column 1 (char 0) ({lab}/my_lab/helper.py,
my_lab.leaving:f | schedule | `my_lab.leaving` fails with SystemExit: 3 ({lab}/my_lab/leaving.py, line 2);
"""


@pytest.mark.parametrize("line", REFUSED.strip().splitlines())
def test_what_is_no_plug_in_is_refused(lab: Path, line: str) -> None:
    path, kind, message = line.split(" | ")
    write(
        lab / "my_lab" / "wrong.py",
        """
        from mlm.encoder import Encoder
        class Fixed(Encoder):
            def __init__(self, width): ...
        class Narrow(Encoder):
            def hidden(self, tokens, *, at=None): ...
        class Greedy(Encoder):
            def hidden(self, tokens, *, at, visible, segments, uniform): ...
        class Half:
            def counts(self, batch): ...
            def sums(self, encoder, batch): ...
        class Needy:
            def __init__(self, power): ...
            def __call__(self, progress): ...
        class Failing:
            def __init__(self):
                self.half = 1 / 0
            def __call__(self, progress): ...
        """,
    )
    write(lab / "my_lab" / "broken.py", "X = 1\nX = (\n")
    write(lab / "my_lab" / "missing.py", "\nimport no_such_package\n")
    write(lab / "my_lab" / "deep.py", "from my_lab import helper\n")
    write(lab / "my_lab" / "helper.py", "import json\nTABLE = json.loads('x')\n")
    write(lab / "my_lab" / "leaving.py", "import sys\nsys.exit(3)\n")
    told = refusal(lambda: plugins.load(path, kind, "e.yaml: arms.a.objective"))  # type: ignore[arg-type]
    assert told.startswith(f"e.yaml: arms.a.objective: {path}: ")
    assert message.format(lab=lab) in told
    assert "\n" not in told


def test_more_parameters_than_are_given_do_no_harm_if_they_have_defaults(lab: Path) -> None:
    write(
        lab / "other.py",
        """
        import functools
        def power(progress, exponent=2): return progress ** exponent
        cubic = functools.partial(power, exponent=3)
        def any(*given, **named): return 0.5
        def all(encoder, tokenizer, run, *more): return {}
        """,
    )
    for name in ("power", "cubic", "any"):
        plugins.check_schedule(f"other:{name}", "here")
    assert plugins.load("other:any", "strategy", "here") is plugins.load("other:any", "strategy", "there")
    plugins.load("other:all", "probe", "here")


def test_a_schedule_that_leaves_0_to_1_is_named_with_progress_and_value(lab: Path) -> None:
    write(
        lab / "other.py",
        """
        import math
        def over(p): return p * 1.25
        def under(p): return p - 0.001 if p < 0.5 else p
        def narrow(p): return 1.5 if 0.4995 < p < 0.5005 else p
        def nan(p): return math.nan if p == 1 else p
        def nothing(p): ...
        def log(p): return -math.log(p)
        """,
    )

    def told(name: str) -> str:
        return refusal(lambda: plugins.check_schedule(f"other:{name}", "e.yaml: base.lengths.shape"))

    assert told("over") == (
        "e.yaml: base.lengths.shape: other:over: is 1.00125 at progress 0.801; "
        "it must stay in [0, 1], for instance by min(max(value, 0.0), 1.0)"
    )
    assert "is -0.001 at progress 0;" in told("under")
    assert "is 1.5 at progress 0.5;" in told("narrow")
    assert "is nan at progress 1;" in told("nan")
    assert "fails at progress 0 with TypeError: float() argument must be" in told("nothing")
    assert f"fails at progress 0 with ValueError: math domain error ({lab}/other.py, line 8)" in told("log")


def test_all_plug_ins_of_a_run_are_checked_under_their_keys(lab: Path) -> None:
    wrong = small(
        objective="my_lab.others:eased",
        masking={
            "strategy": "my_lab.masking:Diagnal",
            "change": {"shape": "my_lab.others:Tokens", "rate": 0.3},
        },
        optimizer={"decay_shape": "no_lab:f"},
        attention={"window": {"shape": "my_lab.others:eased", "values": [4, 8]}},
    )
    told = refusal(lambda: plugins.check(wrong, lambda key: f"e.yaml: arms.a.{key}")).splitlines()
    keys = ["masking.strategy", "masking.change.shape", "optimizer.decay_shape", "objective"]
    assert [line.split(": ")[1] for line in told] == [f"arms.a.{key}" for key in keys]
    assert refusal(lambda: plugins.check(wrong, "e.yaml")).startswith(
        "e.yaml: masking.strategy: my_lab.masking"
    )
    right = small(**ARMS["diagonal"], optimizer={"decay_shape": "my_lab.others:eased"})
    plugins.check(right, "e.yaml")
    assert plugins.digests(right) == {
        path: plugins.source_digest(path) for path in ("my_lab.masking:Diagonal", "my_lab.others:eased")
    }
    plugins.check(small(), "e.yaml")
    assert plugins.digests(small()) == {}


def test_every_key_of_a_run_that_takes_a_path_has_a_kind(lab: Path) -> None:
    path = "my_lab.others:eased"
    run = small(
        objective=path,
        encoder={"architecture": path},
        masking={"strategy": path, "change": {"shape": path, "rate": 0.3}},
        optimizer={"decay_shape": path},
        lengths={"shape": path, "values": [32, 64]},
        attention={"window": {"shape": path, "values": [4, 8]}},
    )
    assert {key for key in run.plugins if not key.endswith("shape")} == set(plugins.KIND_OF)
    assert len(run.plugins) == 7


def test_a_digest_is_of_what_the_source_does(lab: Path) -> None:
    file = lab / "my_lab" / "masking.py"
    before = plugins.source_digest("my_lab.masking:Diagonal")
    assert "my_lab.masking" not in sys.modules
    commented = EXAMPLE.replace("# never", "# surely never").replace("Selects stripes", "Takes stripes")
    file.write_text('"""Of the laboratory."""\n\n\n' + commented.replace("    ", "  "))
    assert plugins.source_digest("my_lab.masking:Diagonal") == before
    file.write_text(EXAMPLE.replace("1e-9", "1e-8"))
    assert plugins.source_digest("my_lab.masking:Diagonal") != before


@pytest.mark.parametrize(
    ("statement", "changed", "counts"),
    [
        ("from my_lab.rules import X", "my_lab/rules.py", True),
        ("from my_lab import rules", "my_lab/rules.py", True),
        ("import my_lab.rules as r", "my_lab/rules.py", True),
        ("from . import rules", "my_lab/rules.py", True),
        ("from .rules import X", "my_lab/rules.py", True),
        ("def f():\n    from .rules import X", "my_lab/rules.py", True),
        ("from .deep.inner import Y", "my_lab/rules.py", True),  # which deep/inner.py imports
        ("from .deep.inner import Y", "my_lab/deep/__init__.py", True),
        ("import torch", "my_lab/__init__.py", True),  # imported before my_lab.mine
        ("import beside", "beside.py", True),
        ("import beside", "my_lab/rules.py", False),
        ("import torch", "my_lab/rules.py", False),
        ("from .. import beyond", "beside.py", False),
        ("import __main__", "beside.py", False),
        ("import installed", "site-packages/installed.py", False),
    ],
)
def test_a_digest_follows_imports_within_package_and_folder(
    lab: Path, monkeypatch: pytest.MonkeyPatch, statement: str, changed: str, counts: bool
) -> None:
    monkeypatch.syspath_prepend(lab / "site-packages")
    write(lab / "my_lab" / "mine.py", statement + "\nimport my_lab.mine, numpy.linalg\n")
    write(lab / "my_lab" / "deep" / "inner.py", "from ..rules import X as Y\n")
    for name in ("my_lab/rules.py", "my_lab/deep/__init__.py", "beside.py", "site-packages/installed.py"):
        write(lab / name, "X = 1\n")
    before = plugins.source_digest("my_lab.mine:f")
    write(lab / changed, "X = 2\n")
    assert (plugins.source_digest("my_lab.mine:f") != before) is counts


def test_a_digest_knows_no_place(
    lab: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    write(lab / "my_lab" / "masking.py", EXAMPLE + "\nfrom . import others\n")
    before = plugins.source_digest("my_lab.masking:Diagonal")
    moved = tmp_path_factory.mktemp("elsewhere")
    (lab / "my_lab").rename(moved / "my_lab")
    monkeypatch.syspath_prepend(moved)
    assert plugins.source_digest("my_lab.masking:Diagonal") == before
    assert before == identity.source_digest("my_lab.masking")


def test_of_an_installed_package_the_module_alone_counts(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(lab / "site-packages")
    for name in ("other/__init__.py", "other/rules.py"):
        write(lab / "site-packages" / name, "X = 1\n")
    write(lab / "site-packages" / "other" / "shapes.py", "from other import rules\ndef f(p): return p\n")
    before = plugins.source_digest("other.shapes:f")
    write(lab / "site-packages" / "other" / "rules.py", "X = 2\n")
    assert plugins.source_digest("other.shapes:f") == before
    write(lab / "site-packages" / "other" / "shapes.py", "from other import rules\ndef f(p): return p * p\n")
    assert plugins.source_digest("other.shapes:f") != before


def test_a_digest_needs_source_that_can_be_read(lab: Path) -> None:
    assert "builtins:abs: `builtins` has no Python source" in refusal(
        lambda: plugins.source_digest("builtins:abs")
    )
    assert "no_lab:f: `no_lab` has no Python" in refusal(lambda: plugins.source_digest("no_lab:f"))
    write(lab / "my_lab" / "late.py", "def f(progress):\n    from . import broken\n")
    write(lab / "my_lab" / "broken.py", "X = (\n")
    told = refusal(lambda: plugins.load("my_lab.late:f", "schedule", "e.yaml: shape"))
    assert f"{lab}/my_lab/broken.py: cannot be read as Python: '(' was never closed" in told


def test_the_current_folder_is_searched_and_a_checked_plug_in_is_not_loaded_again(lab: Path) -> None:
    script = (
        "import sys; sys.path = [p for p in sys.path if p]; from mlm import config, plugins; "
        "run = config.Run.model_validate({'optimizer': {'decay_shape': 'other:eased'}}); "
        "plugins.check(run, 'here'); "
        "print(*plugins.digests(run), *({'other', 'torch'} & set(sys.modules)))"
    )

    def planned(line: str) -> subprocess.CompletedProcess[str]:
        write(lab / "other.py", f"def eased(progress):\n    {line}\n")
        return subprocess.run(
            [sys.executable, "-c", script],
            check=False,
            cwd=lab,
            env={"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )

    for line, told in (
        ("return progress ** 2", "other:eased other\n"),
        ("return progress ** 2  # squared", "other:eased\n"),
        ("return progress ** 3", "other:eased other\n"),
    ):
        ended = planned(line)
        assert ended.stdout == told, ended.stderr
    for _ in range(2):  # what was refused is looked at again
        told = planned("return progress * 2").stderr
        assert "here: optimizer.decay_shape: other:eased: is 1.002 at progress 0.501" in told


def test_what_has_passed_as_one_part_is_checked_as_another(lab: Path) -> None:
    write(lab / "other.py", "def rising(progress):\n    return progress / 2\n")
    plugins.check(small(lengths={"shape": "other:rising", "values": [32, 64]}), "here")
    decay = small(optimizer={"decay_shape": "other:rising", "decay_tokens": 1024})
    assert "is 0.5 at 1" in refusal(lambda: plugins.check(decay, "here"))


def test_a_probe_is_checked_again_where_the_code_that_it_may_call_has_changed(lab: Path) -> None:
    write(lab / "other.py", "def probe(encoder, tokenizer, run):\n    return {}\n")
    for code, loaded in (("one", 1), ("one", 0), ("two", 1)):
        plugins._load.cache_clear()
        plugins.check_probe("other:probe", "here", code)
        assert plugins._load.cache_info().currsize == loaded


def test_the_wanted_calls_are_those_that_the_built_in_ones_understand() -> None:
    for kind, built_in in {
        "strategy": {"__call__": masking.corrupt},
        "objective": {name: getattr(objectives.Prediction, name) for name in ("counts", "sums")},
        "encoder": {name: getattr(Encoder, name) for name in ("__init__", "hidden", "logits", "forward")},
    }.items():
        for method, contract in plugins._contract(kind).items():  # type: ignore[arg-type]
            wanted = [name for name in inspect.signature(contract).parameters if name != "self"]
            taken = [name for name in inspect.signature(built_in[method]).parameters if name != "self"]
            assert set(wanted) <= set(taken)
            assert [name for name in taken if name in wanted] == wanted
