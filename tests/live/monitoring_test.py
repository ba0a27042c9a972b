#!/usr/bin/env python3
"""deploy/monitoring on a real fleet: Debian's Prometheus scrapes it with the project's own configuration while images
and requests go through, bad ones among them. Then every query of the dashboard is asked and must be answered with
figures, and every rule must work on metrics that exist. The dashboard is what `make` writes.
"""

import json
import math
import re
import subprocess
import sys
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request

import live

MONITORING = live.ROOT / "deploy" / "monitoring"
EVERY = 1  # seconds between scrapes


class Prometheus:
    def __init__(self, folder, workers):
        """prometheus.yaml as it is, but for the places and the pace."""
        text = (MONITORING / "prometheus.yaml").read_text()
        for old, new in (("scrape_interval: 5s", f"scrape_interval: {EVERY}s"), ("evaluation_interval: 15s", "evaluation_interval: 1s"),
                         ("[rules.yaml]", f"[{MONITORING}/rules.yaml]"), ("../../.darkroom/local", str(folder))):
            if text.count(old) != 1:
                raise live.Failed(f"prometheus.yaml has not one {old}")
            text = text.replace(old, new)
        (folder / "prometheus.yaml").write_text(text)
        (folder / "workers.json").write_text(json.dumps([{"targets": [f"127.0.0.1:{worker.port}" for worker in workers]}]))
        self.url, self.log = f"http://127.0.0.1:{live.free_port()}", folder / "prometheus.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["prometheus", f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/tsdb",
                 f"--web.listen-address={self.url.removeprefix('http://')}"], stdout=log, stderr=log)
        live.wait_for("Prometheus to answer", 60, self.answers)

    def answers(self):
        if self.process.poll() is not None:
            raise live.Failed(f"Prometheus ended: {self.log.read_text()[-2000:]}")
        try:
            return urllib.request.urlopen(f"{self.url}/-/ready", timeout=5).read()
        except OSError:
            return False

    def get(self, path, **words):
        """The data of an answer; Failed with Prometheus' own words."""
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(words)}", timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise live.Failed(json.load(error)["error"]) from error

    def figures(self, query, since):
        """How many figures the query has had since then, NaN not among them."""
        series = self.get("query_range", query=query, start=since, end=time.time(), step=EVERY)["result"]
        return sum(not math.isnan(float(value)) for one in series for _, value in one["values"])

    def names(self):
        return set(self.get("label/__name__/values"))

    def close(self):
        self.process.terminate()
        self.process.wait(30)


def panels(dashboard):
    """(title, query) of all, with the variables as Grafana would fill them in; $stage is each stage."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"].replace("$__rate_interval", f"{5 * EVERY}s").replace("$job", "darkroom").replace("$model", ".*")
            for stage in live.STAGES if "$stage" in query else [""]:
                yield panel["title"], query.replace("$stage", stage)


def unanswered(prometheus, dashboard, since):
    """Where a figure is 0 when there is no series, there must be one all the same."""
    return [(title, query) for title, query in panels(dashboard) if not prometheus.figures(query.replace(" or vector(0)", ""), since)]


class Monitoring(live.LiveTest):
    models = {"default": {"batch.count": 150, "batch.age": "1s", "train.passes": 2}, "second": {"batch.age": "1s"}}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.since = time.time()
        cls.prometheus = Prometheus(cls.scratch, cls.fleet.workers.values())
        cls.addClassCleanup(cls.prometheus.close)
        cls.dashboard = json.loads((MONITORING / "dashboard.json").read_text())
        cls.load()

    @classmethod
    def load(cls):
        """A second model, corrections, duplicates, no label, no image, wrong labels; requests before there is a model."""
        files = live.digits(900, cls.scratch / "digits")
        up = [("before", files[0][1], [])]
        cls.fleet.send("predictions.requests", up)
        for at in range(0, 900, 100):
            part = files[at:at + 100]
            cls.fleet.send("images", [(f"i{at}-{i}", value, [("label", label)]) for i, (label, value) in enumerate(part)] +
                           [(f"i{at}-0", part[0][1], [("label", "another")]), (f"i{at}-1", part[1][1], [("label", part[1][0])]),
                            (f"n{at}", part[2][1], []), (f"b{at}", b"no image", [("label", "1")]), (f"l{at}", part[3][1], [("label", "")])] +
                           [(f"s{at}-{i}", value, [("label", label), ("ce_model", "second"), ("ce_specversion", "1.0"),
                                                   ("ce_id", f"s{at}-{i}"), ("ce_source", "test"), ("ce_type", "image")])
                            for i, (label, value) in enumerate(part[:30])])
            cls.fleet.send("predictions.requests", [(f"r{at}-{i}", value, []) for i, (_, value) in enumerate(part)] +
                           [(f"e{at}", b"no image", [])])
            time.sleep(1.2)
        cls.fleet.wait_idle(120)
        time.sleep(3 * EVERY)

    def test_the_dashboard_is_what_make_writes(self):
        run = subprocess.run([sys.executable, str(MONITORING / "make"), "--check"], capture_output=True, text=True)
        self.assertEqual((0, ""), (run.returncode, run.stdout + run.stderr))

    def test_every_worker_is_scraped(self):
        self.assertEqual(len(self.fleet.workers), int(self.prometheus.get("query", query="sum(up)")["result"][0]["value"][1]))

    def test_every_panel_has_figures(self):
        asked = list(panels(self.dashboard))
        self.assertGreater(len(asked), 60)
        self.assertEqual([], unanswered(self.prometheus, self.dashboard, self.since))
        print(f"{len(asked)} queries of {len(self.dashboard['panels'])} panels and rows are answered")

    def test_a_misspelt_panel_is_caught(self):
        for right, wrong in (("darkroom_lag_records", "darkroom_lag_record"), ('stage=\\"predict\\"', 'stage=\\"predictor\\"')):
            text = json.dumps(self.dashboard).replace(right, wrong, 1)
            self.assertEqual(1, len(unanswered(self.prometheus, json.loads(text), self.since)), wrong)

    def test_every_rule_works(self):
        rules = [rule for group in self.prometheus.get("rules")["groups"] for rule in group["rules"]]
        self.assertGreater(len(rules), 15)
        known = self.prometheus.names()
        for rule in rules:
            with self.subTest(rule["name"]):
                self.assertEqual(("ok", ""), (rule["health"], rule.get("lastError", "")))
                self.assertEqual(set(), set(re.findall(r"\b(?:darkroom|process)_[a-z_]+[a-z]\b", rule["query"])) - known)

    def test_refusals_raise_alerts(self):
        def raised():
            alerts = self.prometheus.get("alerts")["alerts"]
            return {alert["labels"].get("reason") for alert in alerts if alert["labels"]["alertname"] == "DarkroomDeadLetters"}
        live.wait_for("alerts of what was refused", 20, lambda: {"not-png", "bad-label"} <= raised())

    def test_figures_are_those_of_the_topics(self):
        def value(query):
            return float(self.prometheus.get("query", query=query)["result"][0]["value"][1])
        results = self.fleet.messages("predictions.results")
        errors = [result for result in results if "error" in result]
        self.assertEqual(len(errors), value("sum(darkroom_error_results_total)"))
        self.assertEqual(len(results) - len(errors), value("sum(darkroom_answered_total)"))
        self.assertEqual(len(results), value('darkroom_latency_seconds_count{stage="predict"}'))
        for model in self.models:
            last = [message for message in self.fleet.messages("models.deployed") if message["model"] == model][-1]
            of = f'{{model="{model}"}}'
            self.assertEqual(last["version"], value(f"darkroom_model_version{of}"))
            self.assertEqual(last["version"], value(f"darkroom_serving_version{of}"))
            self.assertAlmostEqual(last["evaluation"]["accuracy"], value(f"darkroom_model_accuracy{of}"))
        images = sum(len(batch["images"]) for batch in self.fleet.messages("batches"))
        self.assertEqual(images, value("sum(darkroom_batched_total)"))


if __name__ == "__main__":
    unittest.main()
