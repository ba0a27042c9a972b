"""documents: rendered manifests and the way around in them, the schemas of those who will read them, and what the
programs say of themselves."""

import importlib.machinery
import importlib.util
import json
import pathlib

import jsonschema

ROOT = pathlib.Path(__file__).resolve().parents[3]
KUBERNETES = ROOT / "deploy" / "kubernetes"
FIXTURES = ROOT / "tests" / "fixtures" / "kubernetes"


def load_render():
    loader = importlib.machinery.SourceFileLoader("render", str(KUBERNETES / "render"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("render", loader))
    loader.exec_module(module)
    return module


render = load_render()
STAGES = render.STAGES


# ---- finding one's way in documents

def find(docs, kind, name=None):
    return [doc for doc in docs if doc["kind"] == kind and name in (None, doc["metadata"]["name"])]


def one(docs, kind, name):
    found = find(docs, kind, name)
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]


def title(doc):
    return f"{doc['kind']} {doc['metadata']['name']}"


def pods(docs):
    """(title, labels, pod spec) of everything that makes pods of a template of ours."""
    for doc in docs:
        if doc["kind"] in ("Deployment", "StatefulSet", "Job"):
            template = doc["spec"]["template"]
            yield title(doc), template["metadata"].get("labels", {}), template["spec"]


def containers(pod):
    return pod.get("initContainers", []) + pod["containers"]


def stage_of(docs, stage):
    """(Deployment, pod spec, the one container)"""
    deployment = one(docs, "Deployment", stage)
    pod = deployment["spec"]["template"]["spec"]
    return deployment, pod, pod["containers"][0]


def environment(docs, container):
    """Variable -> value; None for one that comes from elsewhere."""
    out = {}
    for source in container.get("envFrom", []):
        out.update(one(docs, "ConfigMap", source["configMapRef"]["name"])["data"])
    for each in container.get("env", []):
        out[each["name"]] = each.get("value")
    return out


def selects(selector, labels):
    assert set(selector) <= {"matchLabels"}
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


# ---- what others say

def schemas():
    """(apiVersion, kind) -> a validator that knows every field there may be."""
    shared, kinds = {}, {}
    for line in (FIXTURES / "schemas.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if "definition" in entry:
            shared[entry["definition"]] = entry["schema"]
        else:
            kinds[entry["apiVersion"], entry["kind"]] = entry["schema"]
    for (version, _), schema in kinds.items():
        if "." in version.split("/")[0] and "$ref" not in schema["properties"]["metadata"]:  # a custom resource
            strict(schema)
            schema["properties"]["metadata"] = {"$ref": "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
    return {key: jsonschema.Draft202012Validator({**schema, "$defs": shared}) for key, schema in kinds.items()}


def strict(schema):
    if isinstance(schema, list):
        for each in schema:
            strict(each)
    elif isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
        for each in schema.values():
            strict(each)


class Facts:
    """Asked once."""

    def __init__(self):
        self.stages = {stage: render.described(stage) for stage in STAGES}
        self.topics = {topic["topic"]: topic for topic in render.topics()}
        self.rights = {f"darkroom-{role}": rights for role, rights in render.rights().items()}
        self.kafka_scaler = {p["name"]: p for p in json.loads((FIXTURES / "keda_kafka.json").read_text())["parameters"]}
        self.schemas = schemas()
