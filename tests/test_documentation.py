"""What docs/ shows is what the code takes: files written out there are planned, all keys and columns named."""

import gzip
import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from analysis import contrasts, leaving, over_training, publish_page, table, tidy, tune, verdicts
from mlm import corpus, figures, planner
from mlm.experiment import Contrasts, Experiment, Tune

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^```yaml\n# (experiments/\S+)\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL))
"""Path -> content of the files that the guide writes out."""
EXPERIMENT, CORPUS = "experiments/weight-decay.yaml", "experiments/corpora/mine.yaml"
COLUMNS = {
    "results.csv": tidy.RESULTS,
    "curves.csv": tidy.CURVES,
    "seconds.csv": tidy.SECONDS,
    "contrasts.csv": contrasts.COLUMNS,
    "table.csv": table.COLUMNS,
    "runs.csv": publish_page.RUN_COLUMNS,
    "rates.csv": tune.Row._fields,
    "slopes.csv": leaving.COLUMNS,
    "over.csv": over_training.COLUMNS,
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study with the files that the guide writes out beside those that are there."""
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    for path, content in FILES.items():
        (tmp_path / path).write_text(content, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_experiment_that_is_written_out_has_the_keys_that_are_required_and_is_planned(here: Path) -> None:
    stated = yaml.safe_load(FILES[EXPERIMENT])
    assert {*stated} == {name for name, field in Experiment.model_fields.items() if field.is_required()}
    (name,) = planner.load_study("smoke", [Path(EXPERIMENT).stem]).stated
    assert name == Path(EXPERIMENT).stem


def test_the_corpus_that_is_written_out_is_prepared_and_trained_on(here: Path) -> None:
    for folder in ("texts", "more"):
        (here / folder).mkdir()
    for number in range(100):
        (here / "texts" / f"{number}.txt").write_text(f"Letter {number}.\n\nIt says nothing else.\n")
    (here / "more" / "letters.jsonl.gz").write_bytes(gzip.compress(b'{"text": "One more."}\n'))
    corpus.prepare(here / CORPUS, here / "prepared")
    found = json.loads((here / "prepared" / "corpus.json").read_text())["splits"]
    assert sum(found[split]["documents"] for split in corpus.SPLITS) == 101
    study = planner.load_study("smoke", ["split"], {"corpus": "mine"})
    assert {run.data.corpus_file for run in study.runs.values()} == {Path(CORPUS)}


def test_the_guide_names_every_key_of_an_experiment_and_every_verdict() -> None:
    code = re.findall(r"^```yaml$.*?^```$|`[^`\n]+`", GUIDE, re.MULTILINE | re.DOTALL)
    named = {*re.findall(r"\w+", " ".join(code))}
    for schema in (Experiment, Contrasts, Tune, figures.Figure):
        assert {*schema.model_fields} <= named, schema
    assert {*verdicts.VERDICTS} <= {*re.findall(r"^\| `(\w+)` \|", GUIDE, re.MULTILINE)}


def test_every_column_of_a_table_is_explained() -> None:
    text = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
    common, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    for file, columns in COLUMNS.items():
        (own,) = [section for section in sections if file in section.partition("\n")[0]]
        first_cells = re.findall(r"^\| (`.*?) \|", common + own, re.MULTILINE)
        assert {*columns} <= {*re.findall(r"`(\w+)`", " ".join(first_cells))}, file
