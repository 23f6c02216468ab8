"""The builder says what a pipeline file can say: its types are compared with what the check of files takes."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from app.documents import read_yaml
from connectors.sdk import pipeline as builder
from connectors.sdk.pipeline import Pipeline, Steps
from connectors.sdk.pipeline_triggers import After, Event, Trigger
from streams.domain.alert.rule import OPTIONS as ALERTS
from streams.domain.definition import canonical, digest, problems
from streams.domain.kinds import NO_RUNNER_KINDS, OWN_KINDS, STEP_KINDS

NOT_KNOWN = "~"
KIND_OPTIONS: Mapping[str, type] = {
    kind: get_args(get_type_hints(getattr(Steps, kind))["options"])[0] for kind in STEP_KINDS
}
COMMAND = {"argv": ["true"]}
BLOCKS: Mapping[str, dict[str, Any]] = {  # what a block needs so that its other parts are looked at
    "map": {"over": [1], "command": COMMAND},
    "repeat": {"until": "${{ result.x }}", "max": 1, "command": COMMAND},
}


def document(step: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """Return a file with one step."""
    head = {"apiVersion": "flexcore/v1", "kind": "Pipeline", "metadata": {"name": "a"}}
    return {**head, "spec": {"steps": [{"name": "a", **step}], **spec}}


def known(path: str, file: dict[str, Any]) -> set[str]:
    """Return what the check of files knows at a place where something stands that nobody knows."""
    (fix,) = [problem.fix for problem in problems(file) if problem.path == path]
    return set(re.sub(r"^(known: |one of )", "", fix).split(", "))


def keys(typed: type) -> set[str]:
    """Return the options of a type as the file has them."""
    return {key.removesuffix("_") for key in typed.__annotations__}


SHARED = keys(builder.Done)
ODD = {NOT_KNOWN: 1}


@pytest.mark.parametrize("kind", STEP_KINDS)
def test_each_option_of_a_step_kind_can_be_said(kind: str) -> None:
    """The method's own keywords are the keys of the block; the others are those that mean something for this kind."""
    options = keys(KIND_OPTIONS[kind])
    block = known(f"spec.steps[0].{kind}.{NOT_KNOWN}", document({kind: ODD}))

    shared = set(SHARED)
    if kind in OWN_KINDS:
        shared -= {"retry", "timeout"}
    if kind in NO_RUNNER_KINDS:
        shared -= {"runs_on", "start_timeout", "heartbeat_timeout"}
    if kind in ("wait", "switch"):
        shared -= {"compensate"}
    # A command's timeout has two places in a file that mean the same; here it has the one in the block.
    assert options == block | shared


def test_each_key_of_a_step_and_of_the_head_can_be_said() -> None:
    """Every kind is a method; nothing stands beside a step, in metadata or in spec that has no word."""
    step = known(f"spec.steps[0].{NOT_KNOWN}", document(ODD))
    assert step == {"name"} | SHARED | set(STEP_KINDS)

    head = document({"wait": {"for": "1s"}})
    head["metadata"] |= ODD
    head["spec"] |= ODD
    assert known(f"metadata.{NOT_KNOWN}", head) == {"name"} | keys(builder.Metadata)
    spec = keys(builder.Options) - keys(builder.Metadata)
    assert known(f"spec.{NOT_KNOWN}", head) == spec | {"steps", "finally"}
    assert known(NOT_KNOWN, {**head, **ODD}) == set(Pipeline("a").document())


@pytest.mark.parametrize(
    ("typed", "path", "file"),
    [
        (builder.Retry, "spec.steps[0].retry", document({"retry": ODD})),
        (builder.Command, "spec.steps[0].map.command", document({"map": {"command": ODD}})),
        (builder.Command, "spec.steps[0].repeat.command", document({"repeat": {"command": ODD}})),
        (builder.Command, "spec.steps[0].compensate.command", document({"compensate": {"command": ODD}})),
        (builder.Retry, "spec.steps[0].compensate.retry", document({"compensate": {"retry": ODD}})),
        (builder.Compensation, "spec.steps[0].compensate", document({"compensate": ODD})),
        (builder.Case, "spec.steps[0].switch.cases[0]", document({"switch": {"cases": [ODD]}})),
        (builder.Schedule, "spec.schedule", document({}, schedule=ODD)),
        (Trigger, "spec.triggers[0]", document({}, triggers=[ODD])),
        (After, "spec.triggers[0].after", document({}, triggers=[{"after": ODD}])),
        (Event, "spec.triggers[0].event", document({}, triggers=[{"event": ODD}])),
        (builder.Limit, "spec.limits[0]", document({}, limits=[ODD])),
        (builder.Alert, "spec.alerts[0]", document({}, alerts=[ODD])),
    ],
)  # fmt: skip
def test_each_key_of_a_mapping_within_can_be_said(typed: type, path: str, file: dict[str, Any]) -> None:
    """Retry, schedule and the like have the keys that the file has."""
    assert keys(typed) == known(f"{path}.{NOT_KNOWN}", file)


def words(typed: type) -> Iterable[tuple[str, tuple[str, ...]]]:
    """Yield the options of a type that are one of some words."""
    for key, hint in get_type_hints(typed).items():
        for part in (hint, *get_args(hint)):
            if get_origin(part) is Literal:
                yield key, get_args(part)


WORDS = [
    *[
        (f"spec.steps[0].{kind}.{key}", document({kind: {key: NOT_KNOWN, "deadline": "1d"}}), choices)
        for kind, typed in KIND_OPTIONS.items()
        for key, choices in words(typed)
    ],
    *[
        (f"spec.schedule.{key}", document({}, schedule={"cron": "* * * * *", key: NOT_KNOWN}), choices)
        for key, choices in words(builder.Schedule)
    ],
    *[
        (f"spec.{key}", document({}, **{key: NOT_KNOWN}), choices)
        for key, choices in words(builder.Options)
    ],
    *[
        (f"spec.alerts[0].{key}", document({}, alerts=[{key: NOT_KNOWN}]), choices)
        for key, choices in words(builder.Alert)
    ],
    *[
        (f"spec.steps[0].retry.{key}", document({"retry": {key: NOT_KNOWN}}), choices)
        for key, choices in words(builder.Retry)
    ],
]  # fmt: skip


@pytest.mark.parametrize(("path", "file", "choices"), WORDS, ids=[row[0] for row in WORDS])
def test_each_word_that_a_file_may_choose_can_be_said(
    path: str, file: dict[str, Any], choices: tuple[str, ...]
) -> None:
    """Types name the words that the check takes, all of them and no other."""
    assert set(choices) == known(path, file)


def test_there_are_words_to_compare() -> None:
    """The rows above are found by looking at types, so it would not be noticed if none were."""
    assert len(WORDS) == 8
    assert set(ALERTS) == set(dict(words(builder.Alert))["on"])


# ---------------------------------------------------------------- the same definition, built both ways
NAMES = st.text("abcdefghij", min_size=1, max_size=8)
LISTS = st.lists(NAMES, max_size=3)
TEXT = st.sampled_from(
    ["5s", "1h30m", "yes", "on", "007", "1e3", "null", "~", "é", "a: b", "- x", "${{ inputs.a }}", "${env:A}"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | NAMES, inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for what an option's type allows."""
    arguments = get_args(hint)
    if isinstance(hint, type) and issubclass(hint, dict):  # as a typed dict is at run time
        return typed_dict(hint)
    simple = {str: TEXT, bool: st.booleans(), int: st.integers(0, 99), float: st.floats(0, 9), Any: JSON}
    if hint in simple:
        return simple[hint]
    if get_origin(hint) is Literal:
        return st.sampled_from(arguments)
    if get_origin(hint) is Mapping:
        return st.dictionaries(TEXT | NAMES, values(arguments[1]), max_size=3)
    if get_origin(hint) is Sequence:
        return st.lists(values(arguments[0]), max_size=3)
    return st.one_of([values(argument) for argument in arguments if argument is not type(None)])


def typed_dict(typed: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for a typed dict: its required keys, and any of the others."""
    hints = {key: values(hint) for key, hint in get_type_hints(typed).items()}
    required = {key: hints.pop(key) for key in typed.__required_keys__}
    return st.fixed_dictionaries(required, optional=hints)


STEPS = st.lists(
    st.sampled_from(STEP_KINDS).flatmap(
        lambda kind: st.tuples(st.just(kind), NAMES, typed_dict(KIND_OPTIONS[kind]))
    ),
    max_size=4,
)


def written(kind: str, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a step as a file has it."""
    beside = SHARED - {"timeout"} if kind == "command" else SHARED
    step = {key: value for key, value in options.items() if key in beside}
    block = {key.removesuffix("_"): value for key, value in options.items() if key not in beside}
    return {"name": name, kind: block, **step}


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """A file has none."""
        return True


@settings(max_examples=50, deadline=None)
@given(NAMES, typed_dict(builder.Options), STEPS, STEPS)
def test_a_definition_built_both_ways_is_one_text_with_one_hash(
    name: str, options: dict[str, Any], steps: list[Any], last: list[Any]
) -> None:
    """Whatever it says, right or wrong: YAML and Python give the same canonical JSON."""
    made = Pipeline(name, **options)
    for part, given_steps in ((made, steps), (made.finally_, last)):
        for kind, step, said in given_steps:
            assert getattr(part, kind)(step, **said) == step
    people = keys(builder.Metadata)
    head = {key: value for key, value in options.items() if key in people}
    spec = {key: value for key, value in options.items() if key not in people}
    spec |= {"finally": [written(*step) for step in last]} if last else {}
    file = {
        "spec": {**spec, "steps": [written(*step) for step in steps]},
        "metadata": {**head, "name": name},
        "kind": "Pipeline",
        "apiVersion": "flexcore/v1",
    }
    read = read_yaml(yaml.dump(file, Dumper=_Dumper, allow_unicode=True))
    assert canonical(made.document()) == canonical(read)
    assert digest(canonical(made.document())) == digest(canonical(read))
