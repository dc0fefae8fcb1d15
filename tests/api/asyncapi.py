"""The AsyncAPI document against the schema of AsyncAPI 3.0, and its references against what is there.
Usage: python asyncapi.py DOCUMENT SCHEMA   (jsonschema_rs in the same environment)"""

import json
import sys

import jsonschema_rs


def references(value):
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from references(item)


def main():
    with open(sys.argv[1]) as document, open(sys.argv[2]) as schema:
        document, schema = json.load(document), json.load(schema)
    faults = []
    for error in jsonschema_rs.validator_for(schema).iter_errors(document):
        faults.append(f"{'/'.join(map(str, error.instance_path))}: {error.message[:500]}")
    for reference in sorted(set(references(document))):
        found = document
        for part in reference.removeprefix("#/").split("/"):
            found = found.get(part) if isinstance(found, dict) else None
        if found is None:
            faults.append(f"{reference} is not there")
    for fault in faults:
        print("asyncapi:", fault, file=sys.stderr)
    sys.exit(1 if faults else 0)


main()
