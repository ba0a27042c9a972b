"""overlay: what is applied: deploy/kubernetes/overlays/dev as it is, with the run's own namespace, addresses and image,
and with logs that say when a worker has joined its group."""

import os
import pathlib
import urllib.parse

DEV = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "kubernetes" / "overlays" / "dev"

TEXT = """\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: {namespace}
resources: [{dev}]
{images}configMapGenerator:
  - name: fleet
    namespace: {theirs}
    behavior: merge
    literals:
      - DARKROOM_KAFKA_BOOTSTRAP_SERVERS={kafka}
      - DARKROOM_REDIS_URL={redis}
      - DARKROOM_LOG_LEVEL=debug
patches: # the ports that pods may reach
  - target: {{kind: NetworkPolicy, name: kafka}}
    patch: |
      - {{op: add, path: /spec/egress/0/ports/-, value: {{protocol: TCP, port: {kafka_port}}}}}
  - target: {{kind: NetworkPolicy, name: redis}}
    patch: |
      - {{op: add, path: /spec/egress/0/ports/-, value: {{protocol: TCP, port: {redis_port}}}}}
"""


def image_of(text):
    """NAME, NAME:TAG or NAME@DIGEST, as kustomize wants to be told; a colon before a slash is a port's."""
    name, _, digest = text.partition("@")
    tag = ""
    if ":" in name.rpartition("/")[2]:
        name, _, tag = name.rpartition(":")
    return f'newName: {name}, ' + (f'digest: "{digest}"' if digest else f'newTag: "{tag or "latest"}"')


def write(words):
    folder = words.folder / "overlay"
    folder.mkdir(parents=True, exist_ok=True)
    images = ""
    if words.image:
        images = f"images: [{{name: darkroom, {image_of(words.image)}}}]\n"
    (folder / "kustomization.yaml").write_text(TEXT.format(
        namespace=words.namespace, theirs="darkroom", dev=os.path.relpath(DEV, folder), images=images,
        kafka=words.kafka, redis=words.redis, kafka_port=words.kafka.rpartition(":")[2],
        redis_port=urllib.parse.urlsplit(words.redis).port or 6379))
    return folder
