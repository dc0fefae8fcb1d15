"""What each workflow and action of .github has to keep to. A rule gives the places where it is broken, one line each."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = ROOT / ".github" / "workflows"
ACTIONS = ROOT / ".github" / "actions"

# `uses: owner/name/path@<commit> # v1.2.3`
PINNED = re.compile(r"^[\w.-]+/[\w./-]+@[0-9a-f]{40}$")
LOCAL = re.compile(r"^\./\.github/")
USES = re.compile(r"^\s*(?:-\s+)?uses:\s*(\S+)[ \t]*(#.*)?$", re.MULTILINE)
VERSION = re.compile(r"^# v\d+\.\d+\.\d+$")


class Workflow(yaml.CSafeLoader):
    """YAML 1.1 reads the key `on` as true."""


Workflow.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in kinds if tag != "tag:yaml.org,2002:bool" or first in "tTfF"]
    for first, kinds in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def read(text):
    return yaml.load(text, Loader=Workflow)


def files():
    yield from sorted(WORKFLOWS.glob("*.y*ml"))
    yield from sorted(ACTIONS.glob("*/action.y*ml"))


def jobs(document):
    return document.get("jobs", {}).items()


def steps(document):
    for name, job in jobs(document):
        for step in job.get("steps", []):
            yield name, step
    for step in document.get("runs", {}).get("steps", []):
        yield "runs", step


def pinned(text, _):
    """Actions are named by a whole commit, and by the version that it is."""
    for uses, comment in USES.findall(text):
        if LOCAL.match(uses):
            continue
        if not PINNED.match(uses):
            yield f"{uses} is not pinned by 40 hex digits"
        elif not VERSION.match(comment.strip()):
            yield f"{uses} has no version behind it, as # v1.2.3"


def every_use_is_seen(text, document):
    """The rule above reads lines; nothing may hide from it in another notation."""
    seen = sorted(uses for uses, _ in USES.findall(text))
    said = [step["uses"] for _, step in steps(document) if "uses" in step]
    said += [job["uses"] for _, job in jobs(document) if "uses" in job]
    if seen != sorted(said):
        yield f"`uses` that are not on a line of their own: {sorted(set(said) ^ set(seen))}"


def permissions(_, document):
    """Nothing at the top, what is needed at each job, and never everything."""
    if "jobs" not in document:
        return
    if document.get("permissions") != {}:
        yield "the workflow's permissions are not {}"
    for name, job in jobs(document):
        given = job.get("permissions")
        if not isinstance(given, dict):
            yield f"{name} does not list its permissions"
        elif not set(given.values()) <= {"read", "write", "none"}:
            yield f"{name}: permissions are read, write or none"


def timeouts(_, document):
    for name, job in jobs(document):
        # A job that is a workflow has the timeouts of its jobs.
        if "uses" not in job and not isinstance(job.get("timeout-minutes"), int):
            yield f"{name} has no timeout-minutes"


def concurrency(_, document):
    # A workflow that others call belongs to the group of its caller.
    if "jobs" in document and "concurrency" not in document and set(document["on"]) != {"workflow_call"}:
        yield "no concurrency group"


def triggers(_, document):
    """Code of strangers never runs with this repository's rights."""
    for name in ("pull_request_target", "workflow_run"):
        if name in document.get("on", {}):
            yield f"{name} runs with rights that a pull request must not have"


def no_expression_in_commands(_, document):
    """What comes from outside reaches a command as a variable, not as its text."""
    for name, step in steps(document):
        if "${{" in step.get("run", ""):
            yield f"{name}: an expression in a command ({step.get('name', step['run'].splitlines()[0])}); give it by env"


def no_token_left_behind(_, document):
    for name, step in steps(document):
        if step.get("uses", "").startswith("actions/checkout@") and step.get("with", {}).get("persist-credentials") is not False:
            yield f"{name}: checkout without persist-credentials: false"


def secrets_are_named(_, document):
    for name, job in jobs(document):
        if job.get("secrets") == "inherit":
            yield f"{name} hands on all secrets"


RULES = [
    pinned,
    every_use_is_seen,
    permissions,
    timeouts,
    concurrency,
    triggers,
    no_expression_in_commands,
    no_token_left_behind,
    secrets_are_named,
]


def broken(text):
    """Each broken rule of a file with where it is broken."""
    document = read(text)
    return [(rule.__name__, place) for rule in RULES for place in rule(text, document)]
