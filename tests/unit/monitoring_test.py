#!/usr/bin/env python3
"""What deploy/monitoring says against the programs: every metric that a query, a rule, the runbook or a table names is
on a worker's page, the table has every one that is, each alert has its chapter, and the runbook's commands exist.
Prometheus' own promtool reads the rules and runs their tests. tests/live/monitoring_test.py asks a real fleet.

BUILD names the folder with the programs (default .darkroom/build).
"""

import functools
import json
import os
import pathlib
import re
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("BUILD", ROOT / ".darkroom" / "build"))
MONITORING = ROOT / "deploy" / "monitoring"
STAGES = ("preprocess", "store", "batch", "train", "deploy", "predict")
PANELS = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
METRIC = re.compile(r"\b(?:darkroom|process)_[a-z_]+[a-z]\b")
SERIES = ("_bucket", "_sum", "_count")  # of a histogram


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def page(stage):
    """/metrics of a worker that has neither broker nor Redis."""
    port = free_port()
    env = {**os.environ, "DARKROOM_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "DARKROOM_REDIS_URL": "redis://127.0.0.1:1/0"}
    with subprocess.Popen([BUILD / f"darkroom-{stage}", "--probe", str(port), "--parent=false"], env=env, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as worker:
        try:
            for _ in range(200):
                try:
                    return urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
                except urllib.error.URLError:
                    time.sleep(0.05)
            raise AssertionError(f"darkroom-{stage} does not answer")
        finally:
            worker.kill()


@functools.cache
def exported():
    """Metric -> the stages that have it."""
    names = {}
    for stage in STAGES:
        for name in re.findall(r"^# TYPE (\S+)", page(stage), re.M):
            names.setdefault(name, []).append(stage)
    return names


def of_histogram(name):
    """darkroom_commit_seconds_count is a series of darkroom_commit_seconds."""
    return next((name.removesuffix(end) for end in SERIES if name.endswith(end) and name.removesuffix(end) in exported()), name)


def unknown(text):
    """The metrics that the text names and no worker exports."""
    return sorted({name for name in METRIC.findall(text) if of_histogram(name) not in exported()})


def alerts():
    """Alert -> its part of rules.yaml."""
    parts = re.split(r"^ +- alert: ", (MONITORING / "rules.yaml").read_text(), flags=re.M)[1:]
    return {part.split()[0]: part for part in parts}


def chapters():
    """Heading -> chapter of the runbook."""
    parts = re.split(r"^## ", (MONITORING / "runbook.md").read_text(), flags=re.M)[1:]
    return {part.split("\n")[0]: part for part in parts}


def blind(text):
    """The increase() of the text that does not see what a series is born with; rules.yaml says how it should be."""
    text = re.sub(r"\s+", " ", text)
    return [of for of, window in re.findall(r"increase\(([^\[\]]+)\[(\w+)\]\)", text)
            if f"max_over_time({of}[{window}]) unless present_over_time({of}[1h] offset {window}) or increase({of}[{window}])" not in text]


def sticks(panel):
    """Whether a panel of one figure has a count or a rate that is nothing, not 0, where no series is."""
    query = panel["targets"][0]["expr"]
    return panel["type"] == "stat" and query.count("or vector(0)") < len(re.findall(r"\b(?:sum|count)\(", query))


def promtool(*words, folder=MONITORING):
    return subprocess.run(["promtool", *words], cwd=folder, capture_output=True, text=True, timeout=120)


class Names(unittest.TestCase):
    def test_rules_dashboard_and_runbook_name_what_is_exported(self):
        for name in ("rules.yaml", "rules_test.yaml", "dashboard.json", "runbook.md", "README.md"):
            with self.subTest(name):
                self.assertEqual([], unknown((MONITORING / name).read_text()))
        self.assertEqual([], unknown((ROOT / "README.md").read_text()))

    def test_a_misspelt_name_is_found(self):
        text = (MONITORING / "dashboard.json").read_text()
        self.assertEqual(["darkroom_lag_record"], unknown(text.replace("darkroom_lag_records", "darkroom_lag_record", 1)))
        self.assertEqual(["darkroom_commit_second_count"], unknown(text.replace("commit_seconds_count", "commit_second_count", 1)))

    def test_the_table_is_complete(self):
        rows = re.findall(r"^\| `(\w+)` \| ([\w, ]+) \|", (MONITORING / "README.md").read_text(), re.M)
        said = {name: set(STAGES) if of == "all" else set(STAGES) - {"predict"} if of == "all but predict" else set(of.split(", "))
                for name, of in rows}
        self.assertEqual({name: set(stages) for name, stages in exported().items()}, said)


class Rules(unittest.TestCase):
    def test_promtool_takes_them(self):
        for words in (("check", "rules", "rules.yaml"), ("test", "rules", "rules_test.yaml"), ("check", "config", "prometheus.yaml")):
            run = promtool(*words)
            self.assertEqual(0, run.returncode, run.stdout + run.stderr)

    def test_each_fires_and_clears_in_them(self):
        """A test expects the alert at some time, and later on not."""
        seen = set()
        for test in re.split(r"^  - name: ", (MONITORING / "rules_test.yaml").read_text(), flags=re.M)[1:]:
            looks = re.findall(r"- \{expr: .*?, eval_time: (\d+)m(.*?)\}\n(?! {9})", test, re.S)
            self.assertGreater(len(looks), 1, test)
            for name in alerts():
                at = [int(time_) for time_, expected in looks if f'"{name}"' in expected]
                seen |= {name for time_, expected in looks if at and int(time_) > max(at)}
        self.assertEqual(set(alerts()), seen)

    def test_growth_counts_from_the_birth(self):
        rules = "".join(alerts().values())
        self.assertGreater(rules.count("increase("), 8)
        self.assertEqual([], blind(rules))
        self.assertEqual(["darkroom_restarts_total"], blind(rules.replace("present_over_time(darkroom_restarts", "sum(darkroom_restarts")))

    def test_each_has_what_people_need(self):
        for name, part in alerts().items():
            with self.subTest(name):
                self.assertRegex(part, r"severity: (warning|critical)\b")
                for word in ("summary", "description"):
                    self.assertRegex(part, rf'\n +{word}: ".+"')
                self.assertIn(f"runbook: deploy/monitoring/runbook.md#{name.lower()}\n", part)
                kept = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([\w, ]+)\)", part)))) or {"job", "instance"}
                self.assertLessEqual(set(re.findall(r"\$labels\.(\w+)", part)), kept)


class Dashboard(unittest.TestCase):
    def test_growth_counts_from_the_birth(self):
        queries = [target["expr"] for panel in PANELS for target in panel.get("targets", [])]
        self.assertGreater("".join(queries).count("increase("), 8)
        self.assertEqual([], [of for query in queries for of in blind(query)])

    def test_a_single_figure_goes_back_to_0(self):
        """By its title; a quantile and a model's figure are not known where there is nothing."""
        figures = [panel for panel in PANELS if panel["type"] == "stat"]
        self.assertEqual([], [panel["title"] for panel in figures if sticks(panel)])
        planted = json.loads(json.dumps(figures).replace(" or vector(0)", ""))
        self.assertEqual({"Workers", "Not ready", "Images", "Answers", "Lag", "Refused, 1 h"},
                         {panel["title"] for panel in planted if sticks(panel)})


class Targets(unittest.TestCase):
    def test_of_a_fleet_that_was_stopped_there_are_none(self):
        with tempfile.TemporaryDirectory() as site:
            def targets(words):
                run = subprocess.run(["bash", "-euc", f'. deploy/local/lib.sh; site "$0"; {words}; cat "$SITE/workers.json"', site],
                                     cwd=ROOT, capture_output=True, text=True, timeout=60)
                self.assertEqual((0, ""), (run.returncode, run.stderr))
                return json.loads(run.stdout)
            try:
                up = 'mkdir "$SITE/ports"; echo 9407 >"$SITE/ports/store-1"; proc_start store-1 sleep 100; fleet_targets'
                self.assertEqual([{"targets": ["127.0.0.1:9407"]}], targets(up))
            finally:
                self.assertEqual([{"targets": []}], targets("site_stop"))


class Runbook(unittest.TestCase):
    def test_a_chapter_an_alert(self):
        self.assertEqual(list(alerts()), list(chapters()))
        for name, chapter in chapters().items():
            for word in ("**Means**", "**Who\\s+minds**", "**Look**", "**Do**"):
                self.assertRegex(chapter, word.replace("*", r"\*"), name)

    def test_its_links_lead_somewhere(self):
        text = (MONITORING / "runbook.md").read_text()
        for target in re.findall(r"\]\(([^)]+)\)", text):
            path, _, chapter = target.partition("#")
            self.assertTrue((MONITORING / path).exists() if path else chapter in map(str.lower, chapters()), target)

    def test_its_panels_are_on_the_dashboard(self):
        titles = {panel["title"] for panel in PANELS}
        text = re.sub(r"\*\*[^*]+\*\*", "", (MONITORING / "runbook.md").read_text())
        named = {re.sub(r"\s+", " ", title) for title in re.findall(r"\*([A-Z][^*]+)\*", text)}
        self.assertGreater(len(named), 5)
        self.assertEqual(set(), named - titles)

    def test_its_commands_exist(self):
        text = re.sub(r"\s+", " ", (MONITORING / "runbook.md").read_text())
        help_ = subprocess.run([BUILD / "darkroom", "--help"], capture_output=True, text=True, timeout=20).stdout
        known = re.findall(r"^  ([a-z]+(?: [a-z]+)?)  ", help_, re.M)
        commands = re.findall(r"`darkroom ([^`…]+)`", text)
        self.assertGreater(len(commands), 10)
        for command in commands:
            name = next((name for name in known if f"{command} ".startswith(f"{name} ")), None)
            self.assertIsNotNone(name, command)
            page_ = subprocess.run([BUILD / "darkroom", *name.split(), "--help"], capture_output=True, text=True, timeout=20).stdout
            for flag in re.findall(r"--[a-z-]+", command):
                self.assertRegex(page_, rf"\n  {flag}\b", command)


if __name__ == "__main__":
    unittest.main()
