"""rules: what every overlay must be. Each is a function that is given an overlay's documents and the facts, and returns
complaints."""

import json
import re

from documents import ROOT, STAGES, containers, environment, find, one, pods, render, selects, stage_of, title


def check_schemas(docs, facts):
    wrong, seen = [], set()
    for doc in docs:
        validator = facts.schemas.get((doc["apiVersion"], doc["kind"]))
        if validator is None:
            wrong.append(f"{title(doc)}: no schema of {doc['apiVersion']} {doc['kind']}")
            continue
        wrong += [f"{title(doc)}: {error.json_path}: {error.message[:200]}" for error in validator.iter_errors(doc)]
        if (title(doc), doc["metadata"].get("namespace")) in seen:
            wrong.append(f"{title(doc)} is there twice")
        seen.add((title(doc), doc["metadata"].get("namespace")))
    return wrong


VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def restricted(name, pod):
    """The restricted pod security standard; https://kubernetes.io/docs/concepts/security/pod-security-standards/"""
    of_pod = pod.get("securityContext", {})
    wrong = [f"{name}: {key}" for key in ("hostNetwork", "hostPID", "hostIPC", "hostProcess") if pod.get(key)]
    wrong += [f"{name}: the volume {volume['name']} is of no permitted kind" for volume in pod.get("volumes", [])
              if set(volume) - {"name"} - VOLUMES]
    if of_pod.get("sysctls"):
        wrong.append(f"{name}: sysctls")
    if of_pod.get("runAsUser") == 0:
        wrong.append(f"{name} runs as root")
    for container in containers(pod):
        who, own = f"{name}/{container['name']}", container.get("securityContext", {})
        if not own.get("runAsNonRoot", of_pod.get("runAsNonRoot")) or own.get("runAsUser") == 0:
            wrong.append(f"{who} may run as root")
        if own.get("seccompProfile", of_pod.get("seccompProfile", {})).get("type") not in ("RuntimeDefault", "Localhost"):
            wrong.append(f"{who} has no seccomp profile")
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            wrong.append(f"{who} may get privileges")
        capabilities = own.get("capabilities", {})
        if "ALL" not in capabilities.get("drop", []) or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
            wrong.append(f"{who} keeps capabilities")
        if own.get("procMount", "Default") != "Default" or {"seLinuxOptions", "appArmorProfile"} & set(own):
            wrong.append(f"{who} changes what confines it")
        if any(port.get("hostPort") for port in container.get("ports", [])):
            wrong.append(f"{who} takes a port of the host")
    return wrong


def check_pod_security(docs, facts):
    wrong = [complaint for name, _, pod in pods(docs) for complaint in restricted(name, pod)]
    for pool in find(docs, "KafkaNodePool"):
        template = pool["spec"].get("template", {})
        wrong += restricted(title(pool), {**template.get("pod", {}), "containers": [
            {"name": "kafka", **template.get("kafkaContainer", {})}]})
    for kafka in find(docs, "Kafka"):
        template = kafka["spec"]["entityOperator"].get("template", {})
        wrong += restricted(title(kafka), {**template.get("pod", {}), "containers": [
            {"name": name, **template.get(f"{name}OperatorContainer", {})} for name in ("topic", "user")]})
    labels = one(docs, "Namespace", "darkroom")["metadata"]["labels"]
    wrong += [f"the namespace does not {mode} the restricted standard" for mode in ("enforce", "warn", "audit")
              if labels.get(f"pod-security.kubernetes.io/{mode}") != "restricted"]
    return wrong


def bytes_of(text):
    """Of Redis' words and of Kubernetes': 2000mb, 4Gi, 512Mi."""
    number, unit = re.fullmatch(r"(\d+)(mb|gb|Mi|Gi)", text).groups()
    return int(number) << {"m": 20, "g": 30}[unit[0].lower()]


def check_disks(docs, facts):
    """Who keeps something can write where he keeps it, and says that he is full before he is killed."""
    wrong = [f"{title(doc)} cannot write its volume: no fsGroup" for doc in find(docs, "StatefulSet")
             if doc["spec"].get("volumeClaimTemplates") and "fsGroup" not in doc["spec"]["template"]["spec"]["securityContext"]]
    for pool in find(docs, "KafkaNodePool"):  # a context of ours takes the place of Strimzi's
        own = pool["spec"].get("template", {}).get("pod", {}).get("securityContext")
        if own is not None and "fsGroup" not in own and "persistent-claim" in json.dumps(pool["spec"]["storage"]):
            wrong.append(f"{title(pool)} cannot write its volume: no fsGroup")
    for redis in find(docs, "StatefulSet", "redis"):
        container = redis["spec"]["template"]["spec"]["containers"][0]
        given = dict(zip(container["args"], container["args"][1:]))
        most, limit = bytes_of(given.get("--maxmemory", "0mb")), bytes_of(container["resources"]["limits"]["memory"])
        if not 0 < most <= limit // 2:
            wrong.append(f"{title(redis)} is full at {most} bytes and killed at {limit}; while it rewrites its file it may need twice what it has")
        wrong += [f"{title(redis)}: {name} is {given.get(name)}" for name, value in (
            ("--maxmemory-policy", "noeviction"), ("--appendonly", "yes"), ("--appendfsync", "always")) if given.get(name) != value]
    return wrong


def check_jobs(docs, facts):
    """A Job that is there is in the way of the next apply, so none stays."""
    return [f"{title(job)} has no {name}" for job in find(docs, "Job") for name in ("activeDeadlineSeconds", "ttlSecondsAfterFinished")
            if not 0 < job["spec"].get(name, 0) <= 3600]


def check_manners(docs, facts):
    """What the house asks beyond the standard."""
    version = re.search(r"^project\(.* VERSION ([\d.]+)", (ROOT / "CMakeLists.txt").read_text(), re.M).group(1)
    wrong = []
    for doc in docs:
        if doc["kind"] != "Namespace" and doc["metadata"].get("namespace") != "darkroom":
            wrong.append(f"{title(doc)} is not in the namespace")
    for account in find(docs, "ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            wrong.append(f"{title(account)} gives out tokens")
    for name, labels, pod in pods(docs):
        if pod.get("automountServiceAccountToken") is not False or pod.get("serviceAccountName") != "darkroom":
            wrong.append(f"{name} has a token, or another's account")
        if pod.get("enableServiceLinks") is not False:
            wrong.append(f"{name} is told of services in its environment")
        ours = labels.get("app.kubernetes.io/name") == "darkroom"
        if ours and pod["securityContext"].get("runAsUser") != 65532:
            wrong.append(f"{name} does not run as the image's user")
        writable = {volume["name"] for volume in pod.get("volumes", []) if {"emptyDir", "ephemeral"} & set(volume)} | \
            {claim["metadata"]["name"] for doc in find(docs, "StatefulSet") for claim in doc["spec"].get("volumeClaimTemplates", [])}
        for container in containers(pod):
            who = f"{name}/{container['name']}"
            if not container.get("securityContext", {}).get("readOnlyRootFilesystem"):
                wrong.append(f"{who} may write its root")
            wrong += [f"{who} may write {mount['name']}" for mount in container.get("volumeMounts", [])
                      if not mount.get("readOnly") and mount["name"] not in writable]
            if container.get("imagePullPolicy") != "IfNotPresent":
                wrong.append(f"{who}: imagePullPolicy")
            if "/" in container["image"] or ours and container["image"] != f"darkroom:{version}":
                wrong.append(f"{who} is made of {container['image']}")
            for kind in ("requests", "limits"):
                if set(container.get("resources", {}).get(kind, {})) != {"cpu", "memory"}:
                    wrong.append(f"{who} has no {kind} of processor and memory")
    for stage in STAGES:
        deployment, pod, container = stage_of(docs, stage)
        if container["command"] != [f"darkroom-{stage}"]:
            wrong.append(f"{stage} runs {container['command']}")
        if "replicas" in deployment["spec"]:
            wrong.append(f"{stage} says how many it is; KEDA does")
        if not pod.get("topologySpreadConstraints"):
            wrong.append(f"{stage} is not spread over nodes")
        for constraint in pod.get("topologySpreadConstraints", []):
            if constraint["topologyKey"] != "kubernetes.io/hostname" or \
                    constraint["labelSelector"] != deployment["spec"]["selector"]:
                wrong.append(f"{stage} is spread by something else than its pods over nodes")
    return wrong


def check_probes(docs, facts):
    wrong = []
    for stage, about in facts.stages.items():
        _, _, container = stage_of(docs, stage)
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        for probe, path in (("startupProbe", "/healthz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")):
            asked = container.get(probe, {}).get("httpGet", {})
            if asked.get("path") != path:
                wrong.append(f"{stage}: {probe} asks {asked.get('path')}, not {path}")
            if ports.get(asked.get("port"), asked.get("port")) != about["probe_port"]:
                wrong.append(f"{stage}: {probe} asks the port {asked.get('port')}")
        if environment(docs, container).get("DARKROOM_PROBE") != f":{about['probe_port']}":
            wrong.append(f"{stage} does not listen where it is asked")
    return wrong


def check_grace(docs, facts):
    wrong = []
    for stage, about in facts.stages.items():
        _, pod, container = stage_of(docs, stage)
        drain = environment(docs, container).get("DARKROOM_DRAIN_TIME", about["settings"]["DARKROOM_DRAIN_TIME"])
        if pod.get("terminationGracePeriodSeconds", 30) < render.seconds(drain) + 5:
            wrong.append(f"{stage} may drain for {drain} and is killed after {pod.get('terminationGracePeriodSeconds')} s")
    return wrong


def check_settings(docs, facts):
    """Every variable is a setting: of its stage, or, in what all share, of one at least."""
    wrong, every = [], set().union(*(about["settings"] for about in facts.stages.values()))

    def is_setting(variable, known):
        return re.sub("_FILE$", "", variable) in known or variable in known or variable.startswith("DARKROOM_KAFKA_")

    for stage, about in facts.stages.items():
        _, _, container = stage_of(docs, stage)
        own = {each["name"] for each in container.get("env", [])}
        wrong += [f"{stage}: {name} is no setting of it" for name in own if not is_setting(name, about["settings"])]
        shared = set(environment(docs, container)) - own
        wrong += [f"{stage}: {name} is no setting of anybody" for name in shared if not is_setting(name, every)]
        needed = ["DARKROOM_KAFKA_BOOTSTRAP_SERVERS"] + ["DARKROOM_REDIS_URL"] * about["needs_redis"]
        both = own | shared
        wrong += [f"{stage} is not told {name}" for name in needed if not {name, f"{name}_FILE"} & both]
        wrong += [f"{stage} is told {name} twice" for name in needed if {name, f"{name}_FILE"} <= both]
        if "DARKROOM_INSTANCE" in both or "DARKROOM_KAFKA_GROUP_INSTANCE_ID" in both:
            wrong.append(f"{stage}: all its pods have one name")
        wrong += [f"{stage}: {name} names no file that is mounted" for name, value in environment(docs, container).items()
                  if value and value.startswith("/") and is_setting(name, about["settings"]) and not any(value.startswith(mount["mountPath"] + "/") for mount in container.get("volumeMounts", []))]
    return wrong


def check_triggers(docs, facts):
    wrong, scaler = [], facts.kafka_scaler
    for stage, about in facts.stages.items():
        found = find(docs, "ScaledObject", stage)
        if not found:
            wrong.append(f"{stage} is not scaled")
            continue
        spec = found[0]["spec"]
        _, _, container = stage_of(docs, stage)
        environ = environment(docs, container)
        secure = environ.get("DARKROOM_KAFKA_SECURITY_PROTOCOL", "plaintext") != "plaintext"
        preset = about["settings"]["DARKROOM_PREFIX"]
        topic, group = (environ.get("DARKROOM_PREFIX", preset) + about[name].removeprefix(preset) for name in ("reads", "group"))
        if spec["scaleTargetRef"] != {"name": stage}:
            wrong.append(f"{stage} scales {spec['scaleTargetRef']}")
        if spec.get("minReplicaCount") != 0 or not 0 < spec["maxReplicaCount"] <= facts.topics[about["reads"]]["partitions"]:
            wrong.append(f"{stage}: from {spec.get('minReplicaCount')} to {spec['maxReplicaCount']}")
        if spec.get("fallback", {}).get("behavior") != "currentReplicasIfHigher":
            wrong.append(f"{stage}: without an answer from the broker pods would go")
        if len(spec["triggers"]) != 1:
            wrong.append(f"{stage} has {len(spec['triggers'])} triggers: it commits positions of one topic")
        for trigger in spec["triggers"]:
            data, params = trigger["metadata"], {}
            if trigger["type"] != "kafka":
                wrong.append(f"{stage} is triggered by {trigger['type']}")
            for key, value in data.items():
                base = key if key in scaler else re.sub("FromEnv$", "", key)
                about_key = scaler.get(base, {})
                if not about_key.get("metadataVariableReadable") or key != base and not about_key.get("envVariableReadable"):
                    wrong.append(f"{stage}: KEDA reads no {key}")
                    continue
                if key != base and value not in environ:
                    wrong.append(f"{stage}: {key} names the variable {value}, which the container has not")
                if key == base and value not in about_key.get("allowedValue", [value]):
                    wrong.append(f"{stage}: {key} is {value}")
                params[base] = value
            wrong += [f"{stage}: KEDA needs {key}" for key, what in scaler.items()
                      if not what.get("optional") and "default" not in what and key not in params]
            for key, value in (("topic", topic), ("consumerGroup", group), ("offsetResetPolicy", "earliest"),
                               ("scaleToZeroOnInvalidOffset", "false"), ("activationLagThreshold", "0"), ("version", render.KAFKA_VERSION)):
                if params.get(key) != value:
                    wrong.append(f"{stage}: {key} is {params.get(key)}, not {value}")
            if not re.fullmatch("[1-9][0-9]*", params.get("lagThreshold", "")):
                wrong.append(f"{stage}: lagThreshold")
            if (params.get("tls"), params.get("sasl")) != (("enable", "scram_sha512") if secure else (None, None)):
                wrong.append(f"{stage}: KEDA logs in otherwise than the stage")
            wrong += check_login(docs, facts, stage, trigger, container, secure)
    return wrong


def check_login(docs, facts, stage, trigger, container, secure):
    reference = trigger.get("authenticationRef")
    if bool(reference) != secure:
        return [f"{stage}: a login where there is none, or none where there is one"]
    if not reference:
        return []
    found = find(docs, "TriggerAuthentication", reference["name"])
    if not found:
        return [f"{stage}: no TriggerAuthentication {reference['name']}"]
    given = {each["parameter"]: each for kind in ("env", "secretTargetRef") for each in found[0]["spec"].get(kind, [])}
    wrong = [f"{stage}: KEDA reads no {name} from a login" for name in given
             if not facts.kafka_scaler.get(name, {}).get("triggerAuthenticationVariableReadable")]
    wrong += [f"{stage}: KEDA is not given the {name}" for name in ("username", "password", "ca") if name not in given]
    user = environment(docs, container).get(given.get("username", {}).get("name"))
    if user != f"darkroom-{stage}" or given.get("password", {}).get("name") != user:
        wrong.append(f"{stage}: KEDA logs in as {user} with the password of {given.get('password', {}).get('name')}")
    return wrong


def check_topics(docs, facts):
    found = {doc["metadata"]["name"]: doc["spec"] for doc in find(docs, "KafkaTopic")}
    if not found:
        return [] if find(docs, "Job", "topics") else ["nobody makes the topics"]
    nodes = sum(pool["spec"]["replicas"] for pool in find(docs, "KafkaNodePool"))
    wanted = {name: {"partitions": topic["partitions"], "replicas": min(nodes, 3),
                     "config": {"cleanup.policy": "compact" if topic["compacted"] else "delete",
                                "retention.ms": topic["retention_ms"], "max.message.bytes": topic["max_bytes"]}}
              for name, topic in facts.topics.items()}
    wrong = [f"topic {name}: {found.get(name)}, not {wanted.get(name)}" for name in {*found, *wanted}
             if found.get(name) != wanted.get(name)]
    kafka = one(docs, "Kafka", "darkroom")["spec"]["kafka"]["config"]
    for key, value in (("min.insync.replicas", (nodes + 1) // 2), ("transaction.state.log.min.isr", (nodes + 1) // 2),
                       ("default.replication.factor", nodes), ("offsets.topic.replication.factor", nodes),
                       ("transaction.state.log.replication.factor", nodes), ("auto.create.topics.enable", False)):
        if kafka.get(key) != value:
            wrong.append(f"the brokers' {key} is {kafka.get(key)}, not {value}")
    return wrong


def check_rights(docs, facts):
    """KafkaUsers, where brokers ask, may exactly what `darkroom topics acls` says."""
    asks = [kafka for kafka in find(docs, "Kafka") if "authorization" in kafka["spec"]["kafka"]]
    users = {user["metadata"]["name"]: user["spec"] for user in find(docs, "KafkaUser")}
    if not asks:
        return [f"{name}: a user of a broker that asks nobody" for name in users]
    wrong = []
    for kafka in asks:
        wrong += [f"the listener {listener['name']} lets anybody in" for listener in kafka["spec"]["kafka"]["listeners"]
                  if not listener["tls"] or listener.get("authentication", {}).get("type") != "scram-sha-512"]
    words = {"topic": "Topic", "group": "Group", "transactionalId": "TransactionalId", "prefix": "prefixed", "literal": "literal"}
    for name in {*users, *facts.rights}:
        has = {(words[acl["resource"]["type"]], acl["resource"]["name"], words[acl["resource"]["patternType"]], operation)
               for acl in users.get(name, {}).get("authorization", {}).get("acls", []) for operation in acl["operations"]}
        wants = {(r["resource_type"], r["name"], r["pattern_type"], r["operation"]) for r in facts.rights.get(name, [])}
        wrong += [f"{name} should not: {right}" for right in has - wants] + [f"{name} cannot: {right}" for right in wants - has]
        if users.get(name, {}).get("authentication", {}).get("type") != "scram-sha-512":
            wrong.append(f"{name} has no password")
        about = facts.stages.get(name.removeprefix("darkroom-"))
        if about:  # the same again, of what the stage itself says
            says = {(about["reads"], "Read"), (about.get("follows", about["reads"]), "Read"), *((topic, "Write") for topic in about["writes"])}
            may = {(resource, operation) for kind, resource, _, operation in has if kind == "Topic" and operation in ("Read", "Write")}
            wrong += [f"{name}: its stage says {sorted(says)}, and it may {sorted(may)}"] * (says != may)
    return wrong


def check_selectors(docs, facts):
    wrong = []
    labels = {name: of for name, of, _ in pods(docs)}
    for doc in find(docs, "Deployment") + find(docs, "StatefulSet"):
        chosen = [name for name, of in labels.items() if selects(doc["spec"]["selector"], of)]
        if chosen != [title(doc)]:
            wrong.append(f"{title(doc)} selects {chosen}")
    for stage in STAGES:
        budgets = [b for b in find(docs, "PodDisruptionBudget") if selects(b["spec"]["selector"], labels[f"Deployment {stage}"])]
        if len(budgets) != 1 or budgets[0]["spec"].get("maxUnavailable") != 1:
            wrong.append(f"{stage} is in {len(budgets)} budgets, or in one that stops drains")
    for budget in find(docs, "PodDisruptionBudget"):
        chosen = [name for name, of in labels.items() if selects(budget["spec"]["selector"], of)]
        if len(chosen) != 1:
            wrong.append(f"{title(budget)} is for {chosen}")
    for service in find(docs, "Service"):
        chosen = [name for name, of in labels.items() if selects({"matchLabels": service["spec"]["selector"]}, of)]
        if len(chosen) != 1:
            wrong.append(f"{title(service)} is for {chosen}")
    for monitor in find(docs, "PodMonitor"):
        for stage in STAGES:
            _, _, container = stage_of(docs, stage)
            named = {port["name"] for port in container["ports"]}
            if not selects(monitor["spec"]["selector"], labels[f"Deployment {stage}"]) or \
                    not {each["port"] for each in monitor["spec"]["podMetricsEndpoints"]} <= named:
                wrong.append(f"{title(monitor)} does not find {stage}")
    return wrong


def check_network(docs, facts):
    policies = find(docs, "NetworkPolicy")
    wrong = []
    if not any(policy["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} for policy in policies):
        wrong.append("nothing denies what is not named")
    wrong += [f"{title(policy)} lets everything {way}" for policy in policies
              for way, rules in (("in", policy["spec"].get("ingress", [])), ("out", policy["spec"].get("egress", [])))
              if {} in rules]
    strimzi = {"strimzi.io/cluster": "darkroom"}
    everybody = [labels for _, labels, _ in pods(docs)] + [strimzi] * bool(find(docs, "Kafka"))
    wrong += [f"{title(policy)} is for nobody" for policy in policies
              if not any(selects(policy["spec"]["podSelector"], labels) for labels in everybody)]

    def out(labels, port, protocol="TCP", to=None):
        """To pods with the labels `to` in this namespace; None: to whoever it is."""
        return any(each["protocol"] == protocol and each["port"] <= port <= each.get("endPort", each["port"])
                   for policy in policies if selects(policy["spec"]["podSelector"], labels)
                   for rule in policy["spec"].get("egress", [])
                   if not rule.get("to") or to is not None and any(
                       set(peer) == {"podSelector"} and selects(peer["podSelector"], to) for peer in rule["to"])
                   for each in rule.get("ports") or [{"protocol": protocol, "port": 0, "endPort": 65535}])

    def into(labels, ports, port, who):
        return any(ports.get(each["port"], each["port"]) == port
                   for policy in policies if selects(policy["spec"]["podSelector"], labels)
                   for rule in policy["spec"].get("ingress", [])
                   if any("namespaceSelector" in peer or selects(peer["podSelector"], who) for peer in rule["from"])
                   for each in rule["ports"])

    def port_of(address):
        return int(re.search(r":(\d+)(/\d+)?$", address).group(1))

    brokers = strimzi if find(docs, "Kafka") else None  # else they are elsewhere
    for name, labels, pod in pods(docs):
        for address in {environment(docs, container).get("DARKROOM_KAFKA_BOOTSTRAP_SERVERS") for container in containers(pod)} - {None}:
            if not out(labels, port_of(address), to=brokers):
                wrong.append(f"{name} cannot reach Kafka")
            if not out(labels, 53, "UDP"):
                wrong.append(f"{name} cannot ask for names")
    if brokers:
        wrong += [f"the brokers cannot reach {who}" for who, port, to in (
            ("each other", 9091, strimzi), ("the API server", 443, None), ("the API server behind its Service", 6443, None))
            if not out(strimzi, port, to=to)]
        if not out(strimzi, 53, "UDP"):
            wrong.append("the brokers cannot ask for names")

    servers = [redis["spec"]["template"]["metadata"]["labels"] for redis in find(docs, "StatefulSet", "redis")] or [None]
    for stage, about in facts.stages.items():
        deployment, _, container = stage_of(docs, stage)
        labels, environ = deployment["spec"]["template"]["metadata"]["labels"], environment(docs, container)
        if out(labels, port_of(environ.get("DARKROOM_REDIS_URL") or ":6379"), to=servers[0]) != about["needs_redis"]:
            wrong.append(f"{stage} cannot reach Redis, or may and need not")
        if not into(labels, {port["name"]: port["containerPort"] for port in container["ports"]}, about["probe_port"], {}):
            wrong.append(f"{stage} cannot be scraped")
        for redis in find(docs, "StatefulSet", "redis"):
            if into(redis["spec"]["template"]["metadata"]["labels"], {"redis": 6379}, 6379, labels) != about["needs_redis"]:
                wrong.append(f"Redis does not let {stage} in, or need not")
    return wrong


SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|PRIVATE|CREDENTIAL", re.I)


def check_secrets(docs, facts):
    """By reference only, to what Strimzi or the operator of the fleet puts there."""
    wrong = [f"{title(secret)} is in the manifests" for secret in find(docs, "Secret")]
    users = {user["metadata"]["name"] for user in find(docs, "KafkaUser")}
    known = users | {"darkroom-redis", "darkroom-cluster-ca-cert"}
    for config in find(docs, "ConfigMap"):
        wrong += [f"{title(config)} has {name}" for name, value in config.get("data", {}).items()
                  if SECRET.search(name) and not name.endswith("_FILE") or re.search(r"://[^/@\s]*@", value)]
    for name, _, pod in pods(docs):
        for container in containers(pod):
            for each in container.get("env", []):
                if SECRET.search(each["name"]) and "value" in each and not each["name"].endswith("_FILE") or \
                        re.search(r"://[^/@\s]*@", each.get("value", "")):
                    wrong.append(f"{name} has {each['name']} in plain sight")
        wrong += [f"{name} takes the unknown Secret {volume['secret']['secretName']}" for volume in pod.get("volumes", [])
                  if "secret" in volume and volume["secret"]["secretName"] not in known]
        wrong += [f"{name} has the password of {volume['secret']['secretName']}" for volume in pod.get("volumes", [])
                  if volume.get("secret", {}).get("secretName") in users - {"darkroom-" + name.split()[-1]}]
        configs = {config["metadata"]["name"] for config in find(docs, "ConfigMap")}
        wrong += [f"{name}: there is no ConfigMap {volume['configMap']['name']}" for volume in pod.get("volumes", [])
                  if "configMap" in volume and volume["configMap"]["name"] not in configs]
    return wrong


def check_one_place(docs, facts):
    """Where Kafka and Redis are is said once."""
    fleet = [doc for doc in find(docs, "ConfigMap") if doc["metadata"]["name"].startswith("fleet-")]
    if len(fleet) != 1:
        return [f"{len(fleet)} ConfigMaps of the fleet"]
    wrong, text = [], json.dumps(docs)
    for name in ("DARKROOM_KAFKA_BOOTSTRAP_SERVERS", "DARKROOM_REDIS_URL"):
        value = fleet[0]["data"].get(name)
        if value and text.count(value) != 1:
            wrong.append(f"{value} stands in {text.count(value)} places")
    if "DARKROOM_KAFKA_BOOTSTRAP_SERVERS" not in fleet[0]["data"]:
        wrong.append("the fleet's ConfigMap does not say where Kafka is")
    return wrong


CHECKS = {name.removeprefix("check_"): function for name, function in list(globals().items())
          if name.startswith("check_") and name != "check_login"}  # of documents
