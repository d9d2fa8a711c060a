"""The tests' tests: what the conformance suite notices, and that it accuses nobody who is right."""

from __future__ import annotations

from collections import Counter

import pytest

from refdesign.bits import PackedBits
from refdesign.network import Convolution
from refdesign.verify.conformance.capabilities import TRAITS, traits
from refdesign.verify.conformance.cases import CASES
from refdesign.verify.conformance.judging import judge
from refdesign.verify.hypotheses import CATALOGUE as CHANGES
from refdesign.verify.mutants.catalogue import FILES, Mutant, catalogue, mutated_source, subject_source
from refdesign.verify.mutants.measure import Corpus, corpus, kills
from refdesign.verify.mutants.subject.forward import Implementation

EXAMPLES = 10


@pytest.fixture(scope="module")
def examples() -> Corpus:
    return corpus(EXAMPLES)


def test_the_catalogue_has_at_least_sixty_mutants_of_many_kinds() -> None:
    entries = catalogue()
    assert len(entries) >= 60
    assert len({entry.name for entry in entries}) == len(entries)
    assert len({entry.edits for entry in entries}) == len(entries)
    assert len({entry.bug_class for entry in entries}) >= 20
    assert len([entry for entry in entries if entry.issues]) >= 20


@pytest.mark.parametrize("entry", catalogue(), ids=lambda entry: entry.name)
def test_a_mutant_says_what_is_wrong_and_changes_code(entry: Mutant) -> None:
    assert entry.what.endswith(".")
    assert entry.origin.endswith(".")
    assert all(issue.startswith("https://github.com/") for issue in entry.issues)
    changed = [file for file in FILES if mutated_source(file, entry.edits) != subject_source(file)]
    assert changed == [file for file in FILES if file in {edit.file for edit in entry.edits}]
    for file in changed:
        compile(mutated_source(file, entry.edits), file, "exec")


@pytest.mark.parametrize("entry", catalogue(), ids=lambda entry: entry.name)
def test_the_suite_notices_every_mutant(entry: Mutant, examples: Corpus) -> None:
    assert kills(entry, examples, stop=True).killed


@pytest.mark.parametrize("entry", catalogue(), ids=lambda entry: entry.name)
def test_a_mutant_says_how_a_diagnosis_should_name_it_or_why_it_cannot(entry: Mutant) -> None:
    assert bool(entry.named) != bool(entry.beyond)
    assert set(entry.named) <= {change.name for change in CHANGES}
    assert not entry.beyond or entry.beyond.endswith(".")


def test_a_diagnosis_can_name_most_mutants() -> None:
    assert len([entry for entry in catalogue()[:60] if entry.named]) >= 45
    assert len([entry for entry in catalogue() if entry.named]) >= 120


@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_no_case_accuses_an_implementation_that_is_right(name: str, examples: Corpus) -> None:
    faults = [
        judge(example, Implementation, expected=expected, repeat=True).fault for example, expected in examples[name]
    ]
    assert faults == [None] * len(examples[name])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_is_about_what_it_says_it_needs(case: object, examples: Corpus) -> None:
    entry = next(known for known in CASES if known is case)
    seen = Counter(
        trait for example, _ in examples[entry.name] for trait in traits(example.network, len(example.images))
    )
    assert all(seen[need] >= 3 for need in entry.needs), {need: seen[need] for need in entry.needs}


def test_every_trait_is_met_somewhere_in_the_suite(examples: Corpus) -> None:
    seen = {
        trait
        for entries in examples.values()
        for example, _ in entries
        for trait in traits(example.network, len(example.images))
    }
    assert set(TRAITS) - seen == set()


def test_the_suite_meets_what_hides_faults_elsewhere(examples: Corpus) -> None:
    networks = [example.network for entries in examples.values() for example, _ in entries]
    layers = [layer for network in networks for layer in network.layers]
    shapes = [network.input_shape for network in networks]
    assert sum(len({*shape}) == 3 for shape in shapes) > len(shapes) // 4
    convolutions = [layer for layer in layers if isinstance(layer, Convolution)]
    for name in ("stride", "dilation", "padding"):
        assert any(getattr(layer, name)[0] != getattr(layer, name)[1] for layer in convolutions), name
    lengths = {weights.length for layer in layers if isinstance(weights := getattr(layer, "weights", None), PackedBits)}
    assert {length % 64 for length in lengths} >= {0, 1, 63}
    norms = [norm for layer in layers if (norm := getattr(layer, "batch_norm", None)) is not None]
    assert any((norm.gamma < 0).any() for norm in norms)
    assert any((norm.gamma == 0).any() for norm in norms)
