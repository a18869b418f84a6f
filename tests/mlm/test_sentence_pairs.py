"""Pairs are of the text, labels are balanced, and a step number is the whole state."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlm import config, corpus, shards
from mlm.errors import InputError
from mlm.sentence_pairs import PairBatch, PairBatches, Relation, frozen
from mlm.shards import Shard
from mlm.vocabulary import Tokenizer

RELATIONS: tuple[Relation, ...] = ("nsp", "sop")

several = st.lists(st.integers(1, 12), min_size=2, max_size=30)
texts = st.tuples(
    several, several, st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=9), max_size=4)
).map(lambda drawn: [drawn[0], *drawn[2], drawn[1]])
"""Documents as lengths of their lines, two of them of two lines and more."""
lengths = st.integers(5, 30)


def build(documents: list[list[int]]) -> Shard:
    """A stream of consecutive numbers, but for [SEP], so that a row tells where its text stands."""
    sizes = [[*lines[:-1], lines[-1] + 1] for lines in documents]
    begins = np.cumsum([0, *(size for lines in sizes for size in lines)])
    offsets = np.cumsum([0, *map(sum, sizes)])
    tokens = np.arange(offsets[-1], dtype=np.uint32) + config.N_SPECIAL
    tokens[offsets[1:] - 1] = config.SEP
    return Shard(tokens, offsets, begins[:-1])


def stretches(batch: PairBatch) -> np.ndarray:
    """[rows, 4] begin and end of A and of B in the stream, the layout of every row checked."""
    found = []
    for row, segments, visible in zip(batch.tokens, batch.segments, batch.visible, strict=True):
        first, second = (row == config.SEP).nonzero()[:, 0].tolist()
        place = torch.arange(len(row))
        assert row[0] == config.CLS
        assert torch.equal(visible, place <= second)
        assert bool((row[second + 1 :] == config.PAD).all())
        assert torch.equal(segments, ((place > first) & (place <= second)).long())
        for text in (row[1:first], row[first + 1 : second]):
            assert torch.equal(text, torch.arange(len(text)) + text[0])
        found.append([int(row[i]) - config.N_SPECIAL + n for i, n in ((1, 0), (first - 1, 1))])
        found[-1] += [int(row[i]) - config.N_SPECIAL + n for i, n in ((first + 1, 0), (second - 1, 1))]
    assert all(field.dtype == torch.int64 for field in (batch.tokens, batch.segments, batch.related))
    assert batch.visible.dtype == torch.bool
    return np.array(found)


def document_of(shard: Shard, places: np.ndarray) -> np.ndarray:
    return np.searchsorted(shard.offsets, places, side="right") - 1


def line_ends(shard: Shard) -> np.ndarray:
    """Where lines end; of a document's last one, before the [SEP]."""
    ends = np.append(shard.lines[1:], len(shard.tokens))
    return ends - np.isin(ends, shard.offsets[1:])


@given(texts, lengths, st.sampled_from(RELATIONS), st.integers(0, 2**62), st.integers(0, 50))
def test_a_row_is_two_stretches_of_lines_and_its_label_is_true(documents, length, relation, seed, step) -> None:
    shard = build(documents)
    batch = PairBatches(shard, seed, 7, length, relation)(step)
    assert batch.tokens.shape == batch.segments.shape == batch.visible.shape == (7, length)
    full = batch.visible.all(1).numpy()
    related = batch.related.numpy().astype(bool)
    a, a_end, b, b_end = stretches(batch).T
    assert (document_of(shard, a) == document_of(shard, a_end - 1)).all()
    assert (document_of(shard, b) == document_of(shard, b_end - 1)).all()
    same = document_of(shard, a) == document_of(shard, b)
    assert same.all() if relation == "sop" else (same == related).all()
    assert (a_end[related] == b[related]).all()
    if relation == "sop":  # swapped: what stands first follows in the text
        assert (b_end[~related] <= a[~related]).all()
        assert (b_end == a)[~related & ~full].all()
    # Whatever the label, A ends with a line and B begins with one; only what does not fit is cut.
    assert np.isin(b, shard.lines).all()
    assert np.isin(a_end, line_ends(shard)).all()
    assert (np.isin(a, shard.lines) | full).all()
    assert (np.isin(b_end, line_ends(shard)) | full).all()


@given(texts, lengths, st.sampled_from(RELATIONS), st.integers(1, 40), st.integers(0, 2**62))
def test_labels_are_balanced(documents, length, relation, batch_size, seed) -> None:
    batches = PairBatches(build(documents), seed, batch_size, length, relation)
    for step in range(5):
        assert int(batches(step).related.sum()) in {batch_size // 2, -(-batch_size // 2)}


@pytest.mark.parametrize("relation", RELATIONS)
def test_an_odd_row_and_every_place_are_related_half_of_the_time(relation: Relation) -> None:
    batches = PairBatches(build([[3] * 50, [4] * 50]), 0, 5, 16, relation)
    related = torch.stack([batches(step).related for step in range(2000)]).double()
    assert set(related.sum(1).tolist()) == {2, 3}
    assert float((related.mean(0) - 0.5).abs().max()) < 5 * 0.5 / 2000**0.5
    assert abs(float(related.sum(1).mean()) - 2.5) < 5 * 0.5 / 2000**0.5


def chunks_from(begin: int, sizes: list[int], room: int) -> list[tuple[int, int]]:
    """The rule in words, a line at a time: whole lines while they fit, but two at least."""
    found = []
    while begin < len(sizes):
        end = begin + 1
        while end < len(sizes) and (end < begin + 2 or sum(sizes[begin : end + 1]) <= room):
            end += 1
        found.append((begin, end))
        begin = end
    return found


@given(texts, lengths, st.integers(0, 2**62))
def test_an_epoch_shows_every_line_but_those_before_a_phase(documents, length, seed) -> None:
    """Each document gives the same rows in every epoch; what it leaves out is less than its first chunk."""
    shard = build(documents)
    used = [number for number, sizes in enumerate(documents) if len(sizes) > 1]
    grid = {number: chunks_from(0, documents[number], length - 3) for number in used}
    there = sum(map(len, grid.values()))
    batches = PairBatches(shard, seed, there, length, "sop")
    assert batches.chunks == there
    for epoch in range(3):
        rows = stretches(batches(epoch))
        begins, ends = rows[:, [0, 2]].min(1), rows[:, [1, 3]].max(1)
        assert {n: int((document_of(shard, begins) == n).sum()) for n in used} == {
            n: len(chunks) for n, chunks in grid.items()
        }
        shown = ((begins < line_ends(shard)[:, None]) & (ends > shard.lines[:, None])).sum(1)
        for number, (low, high) in enumerate(pairwise(np.searchsorted(shard.lines, shard.offsets))):
            mine = shown[low:high]
            if number not in used:
                assert not mine.any()
                continue
            left_out = int((mine == 0).sum())
            assert not mine[:left_out].any()
            assert left_out < (grid[number][0][1] if len(grid[number]) > 1 else 1)
            # A line that would be alone at a document's begin or end takes in its neighbour.
            assert mine.max() <= 3
            assert (mine > 1).sum() <= 2


def test_over_epochs_every_line_comes_and_every_seam_is_cut() -> None:
    shard = build([[4] * 41, [20] * 41])
    batches = PairBatches(shard, 3, 200, 24, "sop")
    made = [batches(step) for step in range(80)]
    seams = {int(b) for batch in made for b in stretches(batch)[batch.related.bool().numpy(), 2]}
    inside = np.setdiff1d(shard.lines, shard.offsets)
    assert seams == set(inside.tolist())


@given(texts, lengths, st.sampled_from(RELATIONS), st.integers(0, 100))
def test_a_step_needs_nothing_of_the_steps_before_it(documents, length, relation, step) -> None:
    shard = build(documents)
    used = PairBatches(shard, 5, 6, length, relation)
    for earlier in range(max(0, step - 5), step):
        used(earlier)
    for one, other in zip(used(step), PairBatches(shard, 5, 6, length, relation)(step), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("relation", RELATIONS)
def test_seeds_epochs_and_steps_are_their_own(relation: Relation) -> None:
    shard = build([[3, 5, 2, 7] * 20, [6] * 80])
    first = PairBatches(shard, 0, 32, 32, relation)
    assert not torch.equal(first(0).tokens, PairBatches(shard, 1, 32, 32, relation)(0).tokens)
    whole = PairBatches(shard, 0, first.chunks, 32, relation)
    assert not torch.equal(whole(0).tokens, whole(1).tokens)
    assert not torch.equal(first(0).related, first(1).related)


def test_lengths_tell_next_to_nothing_about_the_label() -> None:
    """Lines as long as half a row: of related pairs many are cut, and so must be the unrelated ones."""
    draws = np.random.default_rng(0)
    shard = build([draws.geometric(1 / 29, size=2000).tolist() for _ in range(10)])
    batches = PairBatches(shard, 0, 200, 64, "nsp")
    of_label = {0: np.zeros(65), 1: np.zeros(65)}
    for step in range(100):
        batch = batches(step)
        for label, count in of_label.items():
            np.add.at(count, batch.visible.sum(1)[batch.related == label].numpy(), 1)
    total_variation = np.abs(of_label[0] - of_label[1]).sum() / 20_000
    assert 0.5 + total_variation / 2 < 0.56


@pytest.mark.parametrize("relation", RELATIONS)
def test_the_edges_of_a_row_tell_nothing_about_the_label(relation: Relation) -> None:
    """A line's first and last tokens are known as such, so a cut one shows; still both labels have as many."""
    draws = np.random.default_rng(2)
    shard = build([draws.integers(3, 40, 60).tolist() for _ in range(40)])
    batches = PairBatches(shard, 4, 64, 40, relation)
    made = [batches(step) for step in range(120)]
    a, _, b, b_end = np.concatenate([stretches(batch) for batch in made]).T
    related = np.concatenate([batch.related.numpy() for batch in made]).astype(bool)
    edges = np.isin(a, shard.lines), np.isin(b_end, line_ends(shard)), np.isin(b, shard.offsets)
    for edge in edges:
        assert abs(edge[related].mean() - edge[~related].mean()) < 0.04, edges


@pytest.mark.parametrize("relation", RELATIONS)
def test_b_alone_tells_next_to_nothing_about_the_label(relation: Relation) -> None:
    """Where documents differ in their lines, an unrelated B is of the kinds that a related one is."""
    draws = np.random.default_rng(3)
    shard = build([draws.integers(2, 5 if d % 2 else 30, 60).tolist() for d in range(40)])
    batches = PairBatches(shard, 5, 64, 64, relation)
    made = [batches(step) for step in range(120)]
    b = np.concatenate([stretches(batch)[:, 2] for batch in made])
    related = np.concatenate([batch.related.numpy() for batch in made]).astype(bool)
    short = document_of(shard, b) % 2 == 1
    assert abs(short[related].mean() - short[~related].mean()) < 0.1


def test_the_order_of_two_cut_lines_is_not_told_by_which_is_longer() -> None:
    batch = PairBatches(build([[40] * 200, [40] * 200]), 0, 2000, 64, "sop")(0)
    a, a_end, b, b_end = stretches(batch).T
    assert (a_end - a + b_end - b == 61).all()
    longer = torch.from_numpy(a_end - a > b_end - b).double()
    assert abs(float(longer[batch.related == 1].mean() - longer[batch.related == 0].mean())) < 5 / 1000**0.5


@given(texts, lengths, st.sampled_from(RELATIONS), st.integers(1, 40))
def test_rows_for_evaluation_are_frozen_balanced_and_spread(documents, length, relation, most) -> None:
    shard = build(documents)
    batch = frozen(shard, length, relation, most)
    for one, again in zip(batch, frozen(shard, length, relation, most), strict=True):
        assert torch.equal(one, again)
    grid = [chunk for sizes in documents if len(sizes) > 1 for chunk in chunks_from(0, sizes, length - 3)]
    rows = len(batch.tokens)
    assert rows == min(most, len(grid))
    assert int(batch.related.sum()) in {rows // 2, -(-rows // 2)}
    first = stretches(batch)[:, 0]
    if relation == "nsp":  # A is of the row's own place: in the order of the text, one behind another
        assert (np.diff(first) > 0).all()
    if most >= len(grid) and relation == "nsp":
        assert set(document_of(shard, first)) == {n for n, sizes in enumerate(documents) if len(sizes) > 1}


def test_pairs_of_real_text_read_on(prepared: Path, tmp_path: Path, vocabularies: dict[str, Tokenizer]) -> None:
    tokenizer = vocabularies["unigram"]
    (tmp_path / "vocabulary.model").write_bytes(tokenizer.model)
    shards.write(prepared, tmp_path / "vocabulary.model", tmp_path / "shards")
    shard = shards.read(tmp_path / "shards")["train"]
    texts = [" ".join(text.split()) for _, text in corpus.read(prepared, "train")]
    batch = PairBatches(shard, 0, 64, 48, "nsp")(0)
    for tokens, segments, related in zip(batch.tokens, batch.segments, batch.related, strict=True):
        ordinary = tokens >= config.N_SPECIAL
        a, b = (tokenizer.decode(tokens[ordinary & (segments == n)].tolist()) for n in (0, 1))
        if config.UNK in tokens:
            continue
        assert any(f"{a} {b}" in text for text in texts) == bool(related)


def refusal(documents: list[list[int]], length: int = 16, relation: Relation = "nsp") -> str:
    with pytest.raises(InputError, match="objective: ") as caught:
        PairBatches(build(documents), 0, 8, length, relation)
    with pytest.raises(InputError) as frozen_caught:
        frozen(build(documents), length, relation, 8)
    assert str(caught.value) == str(frozen_caught.value)
    return str(caught.value)


def test_text_that_cannot_be_paired_is_named() -> None:
    for relation in RELATIONS:
        said = refusal([[90], [50], [70]], relation=relation)
        assert f"objective: {relation}: the corpus: a corpus without sentence boundaries" in said
        assert "none of its 3 documents has two lines; write a sentence a line" in said
    said = refusal([[9, 9, 9], [50]])
    assert "only one document has two lines" in said
    assert "objective sop" in said
    PairBatches(build([[9, 9, 9], [50]]), 0, 8, 16, "sop")(0)


def test_much_text_without_part_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    PairBatches(build([[9] * 9, [9] * 9, [99]]), 0, 8, 16, "nsp")
    assert "100 of 264 tokens stand in documents of a single line" in capsys.readouterr().err
    PairBatches(build([[9] * 9, [9] * 9, [2]]), 0, 8, 16, "nsp")
    assert not capsys.readouterr().err
