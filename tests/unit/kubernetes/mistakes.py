"""mistakes: for each rule those that it must notice, each made in the rendered overlays/prod by one function; or in
another overlay, where its name comes first."""

import copy

from documents import find, one


def deployment(docs, stage="store"):
    return one(docs, "Deployment", stage)["spec"]["template"]["spec"]


def container(docs, stage="store"):
    return deployment(docs, stage)["containers"][0]


def scaled(docs, stage="store"):
    return one(docs, "ScaledObject", stage)["spec"]


def trigger(docs, stage="store"):
    return scaled(docs, stage)["triggers"][0]["metadata"]


def redis(docs):
    return one(docs, "StatefulSet", "redis")["spec"]["template"]["spec"]["containers"][0]


def redis_args(docs):
    return redis(docs)["args"]


def fleet(docs):
    return next(doc for doc in find(docs, "ConfigMap") if doc["metadata"]["name"].startswith("fleet-"))["data"]


def policy(docs, name):
    return one(docs, "NetworkPolicy", name)["spec"]


def drop(docs, kind, name):
    docs.remove(one(docs, kind, name))


MISTAKES = {
    "schemas": [
        lambda d: deployment(d).update(restartpolicy="Always"),
        lambda d: container(d).update(ports=[{"name": "probe", "containerPort": "9401"}]),
        lambda d: container(d)["resources"]["limits"].update(memory={"Mi": 5}),
        lambda d: scaled(d).update(cooldown=5),
        lambda d: scaled(d).update(pollingInterval="5"),
        lambda d: scaled(d)["fallback"].update(behavior="none"),
        lambda d: trigger(d).update(lagThreshold=5000),
        lambda d: one(d, "KafkaUser", "darkroom-store")["spec"]["authorization"]["acls"][0].update(operation="Read"),
        lambda d: one(d, "KafkaTopic", "darkroom.images").update(apiVersion="kafka.strimzi.io/v1beta2"),
        lambda d: one(d, "Kafka", "darkroom")["spec"]["kafka"].update(replicas=3),
        lambda d: one(d, "KafkaNodePool", "nodes")["spec"].update(roles=["zookeeper"]),
        lambda d: one(d, "PodMonitor", "darkroom")["spec"].update(endpoints=[]),
        lambda d: one(d, "PodDisruptionBudget", "store")["spec"].update(maxUnavailable=[1]),
        lambda d: one(d, "TriggerAuthentication", "store")["spec"]["secretTargetRef"][0].pop("key"),
        lambda d: policy(d, "kafka")["egress"][0].update(port=9092),
        lambda d: d.append(copy.deepcopy(one(d, "Service", "redis"))),
    ],
    "pod_security": [
        lambda d: deployment(d).update(hostNetwork=True),
        lambda d: deployment(d).update(volumes=[{"name": "host", "hostPath": {"path": "/"}}]),
        lambda d: deployment(d)["securityContext"].pop("runAsNonRoot"),
        lambda d: deployment(d)["securityContext"].update(runAsUser=0),
        lambda d: deployment(d)["securityContext"].pop("seccompProfile"),
        lambda d: container(d)["securityContext"].pop("allowPrivilegeEscalation"),
        lambda d: container(d)["securityContext"].update(privileged=True),
        lambda d: container(d)["securityContext"].update(capabilities={"drop": ["NET_RAW"]}),
        lambda d: container(d)["securityContext"]["capabilities"].update(add=["SYS_ADMIN"]),
        lambda d: container(d)["ports"][0].update(hostPort=9401),
        lambda d: one(d, "StatefulSet", "redis")["spec"]["template"]["spec"]["securityContext"].pop("runAsNonRoot"),
        lambda d: one(d, "KafkaNodePool", "nodes")["spec"].pop("template"),
        lambda d: one(d, "Kafka", "darkroom")["spec"]["entityOperator"]["template"].pop("userOperatorContainer"),
        lambda d: one(d, "Namespace", "darkroom")["metadata"]["labels"].update({"pod-security.kubernetes.io/enforce": "baseline"}),
    ],
    "disks": [
        lambda d: one(d, "KafkaNodePool", "nodes")["spec"]["template"]["pod"]["securityContext"].pop("fsGroup"),
        lambda d: one(d, "StatefulSet", "redis")["spec"]["template"]["spec"]["securityContext"].pop("fsGroup"),
        lambda d: [redis_args(d).remove(each) for each in ("--maxmemory", "2000mb")],
        lambda d: redis_args(d).__setitem__(redis_args(d).index("2000mb"), "0mb"),
        lambda d: redis_args(d).__setitem__(redis_args(d).index("2000mb"), "4gb"),
        lambda d: redis_args(d).__setitem__(redis_args(d).index("noeviction"), "allkeys-lru"),
        lambda d: redis_args(d).__setitem__(redis_args(d).index("always"), "everysec"),
        lambda d: redis(d)["resources"]["limits"].update(memory="2Gi"),
    ],
    "jobs": [
        ("demo", lambda d: one(d, "Job", "topics")["spec"].pop("activeDeadlineSeconds")),
        ("demo", lambda d: one(d, "Job", "demo")["spec"].update(activeDeadlineSeconds=86400)),
        ("demo", lambda d: one(d, "Job", "demo")["spec"].pop("ttlSecondsAfterFinished")),
    ],
    "manners": [
        lambda d: deployment(d).pop("automountServiceAccountToken"),
        lambda d: deployment(d).update(serviceAccountName="default"),
        lambda d: one(d, "ServiceAccount", "darkroom").pop("automountServiceAccountToken"),
        lambda d: deployment(d).pop("enableServiceLinks"),
        lambda d: deployment(d)["securityContext"].update(runAsUser=1000),
        lambda d: container(d)["securityContext"].pop("readOnlyRootFilesystem"),
        lambda d: container(d)["volumeMounts"][0].pop("readOnly"),
        lambda d: container(d).update(imagePullPolicy="Always"),
        lambda d: container(d).update(image="registry.example/darkroom:0.1.0"),
        lambda d: container(d).update(image="darkroom:latest"),
        lambda d: container(d)["resources"]["limits"].pop("memory"),
        lambda d: container(d)["resources"].pop("requests"),
        lambda d: container(d).update(command=["darkroom-batch"]),
        lambda d: one(d, "Deployment", "store")["spec"].update(replicas=3),
        lambda d: deployment(d).pop("topologySpreadConstraints"),
        lambda d: deployment(d)["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"].update(
            {"app.kubernetes.io/component": "batch"}),
        lambda d: one(d, "ScaledObject", "store")["metadata"].update(namespace="default"),
    ],
    "probes": [
        lambda d: container(d)["livenessProbe"]["httpGet"].update(path="/readyz"),
        lambda d: container(d).pop("startupProbe"),
        lambda d: container(d)["startupProbe"]["httpGet"].update(path="/readyz"),
        lambda d: container(d).pop("readinessProbe"),
        lambda d: container(d)["ports"][0].update(containerPort=9400),
        lambda d: container(d)["livenessProbe"]["httpGet"].update(port=8080),
        lambda d: fleet(d).update(DARKROOM_PROBE="9401"),
    ],
    "grace": [
        lambda d: deployment(d).update(terminationGracePeriodSeconds=10),
        lambda d: fleet(d).update(DARKROOM_DRAIN_TIME="1m"),
        lambda d: (deployment(d).pop("terminationGracePeriodSeconds"), fleet(d).update(DARKROOM_DRAIN_TIME="28s")),
    ],
    "settings": [
        lambda d: fleet(d).update(DARKROOM_LOGFORMAT="json"),
        lambda d: container(d, "batch").setdefault("env", []).append({"name": "DARKROOM_THREADS", "value": "2"}),
        lambda d: fleet(d).update(DARKROOM_INSTANCE="store-0"),
        lambda d: fleet(d).update(DARKROOM_KAFKA_GROUP_INSTANCE_ID="store-0"),
        lambda d: fleet(d).pop("DARKROOM_KAFKA_BOOTSTRAP_SERVERS"),
        lambda d: container(d).update(env=[each for each in container(d)["env"] if each["name"] != "DARKROOM_REDIS_URL_FILE"]),
        lambda d: fleet(d).update(DARKROOM_REDIS_URL="redis://redis:6379/0"),
        lambda d: fleet(d).update(DARKROOM_KAFKA_SSL_CA_LOCATION="/etc/ssl/elsewhere/ca.crt"),
    ],
    "triggers": [
        lambda d: drop(d, "ScaledObject", "store"),
        lambda d: scaled(d)["scaleTargetRef"].update(name="batch"),
        lambda d: scaled(d)["triggers"][0].update(type="apache-kafka"),
        lambda d: trigger(d).update(topics="darkroom.images.prepared"),
        lambda d: trigger(d).update(topic="darkroom.images"),
        lambda d: trigger(d).update(consumerGroup="store"),
        lambda d: fleet(d).update(DARKROOM_PREFIX="other."),
        lambda d: trigger(d).pop("topic"),
        lambda d: trigger(d).pop("version"),
        lambda d: trigger(d).update(offsetResetPolicy="latest"),
        lambda d: trigger(d).update(offsetResetPolicy="oldest"),
        lambda d: trigger(d).update(scaleToZeroOnInvalidOffset="true"),
        lambda d: trigger(d).update(activationLagThreshold="10"),
        lambda d: trigger(d).update(lagThreshold="0"),
        lambda d: trigger(d).update(bootstrapServersFromEnv="KAFKA"),
        lambda d: trigger(d).update(lagThresholdFromEnv="DARKROOM_PROBE"),
        lambda d: trigger(d).pop("bootstrapServersFromEnv"),
        lambda d: trigger(d).update(tls="disable"),
        lambda d: trigger(d).update(sasl="scram_sha256"),
        lambda d: scaled(d)["triggers"][0].pop("authenticationRef"),
        lambda d: scaled(d)["triggers"][0]["authenticationRef"].update(name="batch"),
        lambda d: drop(d, "TriggerAuthentication", "store"),
        lambda d: one(d, "TriggerAuthentication", "store")["spec"]["secretTargetRef"][0].update(parameter="passwd"),
        lambda d: scaled(d, "predict")["triggers"].append(
            {"type": "kafka", "metadata": {**trigger(d, "predict"), "topic": "darkroom.models.deployed"}}),
        lambda d: scaled(d).update(maxReplicaCount=9),
        lambda d: scaled(d).update(minReplicaCount=1),
        lambda d: scaled(d)["fallback"].update(behavior="static"),
    ],
    "topics": [
        lambda d: drop(d, "KafkaTopic", "darkroom.batches.dlq"),
        lambda d: one(d, "KafkaTopic", "darkroom.images")["spec"].update(partitions=4),
        lambda d: one(d, "KafkaTopic", "darkroom.images")["spec"].update(replicas=1),
        lambda d: one(d, "KafkaTopic", "darkroom.models.deployed")["spec"]["config"].update({"cleanup.policy": "delete"}),
        lambda d: one(d, "KafkaTopic", "darkroom.images")["metadata"].update(name="images"),
        lambda d: one(d, "Kafka", "darkroom")["spec"]["kafka"]["config"].update({"min.insync.replicas": 1}),
        lambda d: one(d, "Kafka", "darkroom")["spec"]["kafka"]["config"].pop("auto.create.topics.enable"),
        lambda d: d.__setitem__(slice(None), [doc for doc in d if doc["kind"] != "KafkaTopic"]),
    ],
    "rights": [
        lambda d: one(d, "KafkaUser", "darkroom-store")["spec"]["authorization"]["acls"].pop(),
        lambda d: one(d, "KafkaUser", "darkroom-store")["spec"]["authorization"]["acls"][0]["operations"].append("Delete"),
        lambda d: one(d, "KafkaUser", "darkroom-store")["spec"]["authorization"]["acls"][0]["resource"].update(patternType="prefix"),
        lambda d: drop(d, "KafkaUser", "darkroom-predict"),
        lambda d: one(d, "KafkaUser", "darkroom-store")["spec"].pop("authentication"),
        lambda d: one(d, "Kafka", "darkroom")["spec"]["kafka"].pop("authorization"),
        lambda d: one(d, "Kafka", "darkroom")["spec"]["kafka"]["listeners"].append(
            {"name": "plain", "port": 9092, "type": "internal", "tls": False}),
    ],
    "selectors": [
        lambda d: one(d, "PodDisruptionBudget", "store")["spec"]["selector"]["matchLabels"].update({"app.kubernetes.io/component": "stor"}),
        lambda d: one(d, "PodDisruptionBudget", "store")["spec"]["selector"]["matchLabels"].pop("app.kubernetes.io/component"),
        lambda d: one(d, "PodDisruptionBudget", "store")["spec"].update(maxUnavailable=0),
        lambda d: drop(d, "PodDisruptionBudget", "store"),
        lambda d: one(d, "Deployment", "store")["spec"]["selector"]["matchLabels"].pop("app.kubernetes.io/component"),
        lambda d: one(d, "Service", "redis")["spec"]["selector"].update({"app.kubernetes.io/name": "valkey"}),
        lambda d: one(d, "PodMonitor", "darkroom")["spec"]["podMetricsEndpoints"][0].update(port="metrics"),
        lambda d: one(d, "PodMonitor", "darkroom")["spec"]["selector"]["matchLabels"].update({"app.kubernetes.io/name": "dark"}),
    ],
    "network": [
        lambda d: drop(d, "NetworkPolicy", "default-deny"),
        lambda d: policy(d, "default-deny").update(policyTypes=["Ingress"]),
        lambda d: policy(d, "default-deny").update(egress=[{}]),
        lambda d: policy(d, "kafka").update(egress=[{}]),
        lambda d: drop(d, "NetworkPolicy", "kafka"),
        lambda d: drop(d, "NetworkPolicy", "dns"),
        lambda d: drop(d, "NetworkPolicy", "metrics"),
        lambda d: drop(d, "NetworkPolicy", "redis"),
        lambda d: policy(d, "redis").update(podSelector={}),
        lambda d: policy(d, "redis-server").update(podSelector={"matchLabels": {"app.kubernetes.io/name": "valkey"}}),
        lambda d: policy(d, "redis-server")["ingress"][0].update({"from": [{"podSelector": {}}]}),
        lambda d: policy(d, "metrics")["ingress"][0]["ports"][0].update(port=9400),
        lambda d: fleet(d).update(DARKROOM_KAFKA_BOOTSTRAP_SERVERS="kafka:19092"),
        lambda d: policy(d, "kafka")["egress"][0].update(to=[{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "redis"}}}]),
        lambda d: policy(d, "redis")["egress"][0].update(to=[{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "valkey"}}}]),
        lambda d: policy(d, "dns")["egress"][0].update(to=[{"podSelector": {}}]),
        lambda d: drop(d, "NetworkPolicy", "strimzi"),
        lambda d: policy(d, "strimzi")["egress"].pop(0),
        lambda d: policy(d, "strimzi")["egress"][0].update(to=[{"podSelector": {"matchLabels": {"strimzi.io/cluster": "other"}}}]),
        lambda d: policy(d, "strimzi")["egress"].pop(1),
        lambda d: policy(d, "strimzi")["egress"][1]["ports"].pop(1),
        ("demo", lambda d: one(d, "Job", "topics")["spec"]["template"]["metadata"]["labels"].update({"app.kubernetes.io/name": "topics"})),
    ],
    "secrets": [
        lambda d: d.append({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x", "namespace": "darkroom"}}),
        lambda d: fleet(d).update(DARKROOM_KAFKA_SASL_PASSWORD="hunter2"),
        lambda d: fleet(d).update(DARKROOM_REDIS_URL="redis://:hunter2@redis:6379/0"),
        lambda d: container(d)["env"].append({"name": "DARKROOM_KAFKA_SASL_PASSWORD", "value": "hunter2"}),
        lambda d: container(d)["env"].append({"name": "DARKROOM_REDIS_URL", "value": "redis://darkroom:hunter2@redis:6379/0"}),
        lambda d: [v for v in deployment(d)["volumes"] if v["name"] == "redis-url"][0]["secret"].update(secretName="redis"),
        lambda d: [v for v in deployment(d)["volumes"] if v["name"] == "kafka-user"][0]["secret"].update(secretName="darkroom-predict"),
        lambda d: [v for v in deployment(d)["volumes"] if v["name"] == "models"][0]["configMap"].update(name="models"),
    ],
    "one_place": [
        lambda d: trigger(d).update(bootstrapServers="darkroom-kafka-bootstrap:9093"),
        lambda d: fleet(d).pop("DARKROOM_KAFKA_BOOTSTRAP_SERVERS"),
        lambda d: find(d, "ConfigMap")[0]["metadata"].update(name="fleet-2") or find(d, "ConfigMap")[1]["metadata"].update(name="fleet-1"),
    ],
}
