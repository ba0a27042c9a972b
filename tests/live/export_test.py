#!/usr/bin/env python3
"""What other programs read of the models: ONNX by its checker and its runtime, safetensors by its own library,
event files by TensorBoard's reader."""

import io
import json
import pathlib
import signal
import subprocess
import tempfile
import time
import unittest

import numpy
import onnx
import onnxruntime
import safetensors
import safetensors.numpy
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.pr_curve import plugin_data_pb2
from tensorboard.util import tensor_util

import live

LIMIT = 1e-5  # between our probabilities and ONNX Runtime's
FIGURES = ("accuracy", "auc", "loss", "precision", "recall")


def ask_onnx(path, images):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"images": images})[0]


class Nets(unittest.TestCase):
    """Nets of every kind of layer, as export_nets makes them."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        subprocess.run([str(live.BUILD / "export_nets"), folder.name], check=True, timeout=60)
        cls.names = sorted(path.stem for path in cls.folder.glob("*.onnx"))
        assert len(cls.names) >= 25, cls.names

    def path(self, name, ending):
        return self.folder / f"{name}.{ending}"

    def shape(self, name):
        net = json.loads(self.path(name, "json").read_text())["net"]
        return net["height"], net["width"], net["channels"]

    def images(self, name):
        return numpy.fromfile(self.path(name, "images"), numpy.uint8).reshape(-1, *self.shape(name))

    def test_onnx_checker(self):
        for name in self.names:
            with self.subTest(name):
                onnx.checker.check_model(str(self.path(name, "onnx")), full_check=True)

    def test_onnx_answers(self):
        largest = 0
        for name in self.names:
            with self.subTest(name):
                images = self.images(name)
                ours = numpy.fromfile(self.path(name, "answers"), numpy.float32).reshape(len(images), -1)
                theirs = ask_onnx(self.path(name, "onnx"), images)
                largest = max(largest, float(abs(ours - theirs).max()))
                self.assertEqual(ours.shape, theirs.shape)
                self.assertGreater(ours.std(axis=0).max(), 1e-3, "these images do not tell anything apart")
                self.assertLess(abs(ours - theirs).max(), LIMIT)
                one = ask_onnx(self.path(name, "onnx"), images[5:6])  # any number of images
                self.assertLess(abs(one - theirs[5:6]).max(), LIMIT)
        print(f"largest difference to ONNX Runtime: {largest:.2g}")

    def test_onnx_properties(self):
        model = onnx.load(self.path("tempered", "onnx"))
        properties = {p.key: p.value for p in model.metadata_props}
        labels = json.loads(properties.pop("darkroom.labels"))
        self.assertEqual(["äpfel"] + [f'class "{c}"' for c in range(1, 10)], labels)
        self.assertEqual({"darkroom.model": "tempered", "darkroom.version": "8", "darkroom.artifact": "0123456789abcdef",
                          "darkroom.height": "14", "darkroom.width": "12", "darkroom.channels": "1", "darkroom.alpha": "black",
                          "darkroom.mean": "[0.13]", "darkroom.scale": "[3.2]", "darkroom.temperature": "1.75"}, properties)
        self.assertEqual(8, model.model_version)

    def test_temperature(self):
        """Without its Div the same graph gives other answers."""
        model = onnx.load(self.path("tempered", "onnx"))
        divided, = [node for node in model.graph.node if node.op_type == "Div"]
        self.assertEqual("logits", divided.input[0])
        plain = [node.op_type for node in onnx.load(self.path("conv", "onnx")).graph.node]
        self.assertNotIn("Div", plain)

    def test_turned_once(self):
        """An image is put channels first once, and turned back only where it is concatenated."""
        for name, turns in (("dense_colour", 0), ("conv", 1), ("resnet_small", 1), ("add_input", 1), ("wide_and_deep", 0),
                            ("wide_beside_deep", 2), ("concat_convs", 3), ("concat_itself", 2)):
            with self.subTest(name):
                kinds = [node.op_type for node in onnx.load(self.path(name, "onnx")).graph.node]
                self.assertEqual(turns, kinds.count("Transpose"))

    def test_json_is_the_safetensors(self):
        for name in self.names:
            with self.subTest(name):
                said = json.loads(self.path(name, "json").read_text())
                tensors = safetensors.numpy.load_file(self.path(name, "safetensors"))
                self.assertEqual(set(tensors), set(said["tensors"]))
                for tensor, value in tensors.items():
                    numpy.testing.assert_array_equal(numpy.array(said["tensors"][tensor], numpy.float32), value, tensor)
                with safetensors.safe_open(self.path(name, "safetensors"), "numpy") as file:
                    notes = file.metadata()
                self.assertEqual(json.loads(notes["darkroom.labels"]), said["labels"])
                self.assertEqual(json.loads(notes["darkroom.net"]), said["net"])
                norm = json.loads(notes["darkroom.norm"])
                for each in ("mean", "scale"):
                    self.assertEqual([numpy.float32(x) for x in norm[each]], [numpy.float32(x) for x in said["norm"][each]])
                self.assertIn('"mean":[0.13', self.path(name, "json").read_text(), "not the shortest numbers")


class Versions(live.LiveTest):
    """A fleet that keeps the weights of two versions."""

    models = {"default": {"batch.count": 200, "batch.age": "1s", "evaluation.share": 0.2, "keep.versions": 2},
              "dots": {"batch.count": 100, "batch.age": "1s", "network": "cnn", "input.width": 20, "input.channels": 3}}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.board = cls.scratch / "board"
        digits = live.digits(1500, cls.scratch / "digits")
        cls.files = sorted((cls.scratch / "digits").rglob("*.png"))[:40]
        cls.next = iter(enumerate(digits))
        for _ in range(5):
            cls.teach(200)
        cls.teach(100, "dots")

    @classmethod
    def teach(cls, count, model="default"):
        picked = [next(cls.next) for _ in range(count)]
        cls.fleet.send("images", [(f"{model}-{i}", value, [("label", label), ("ce_model", model), ("ce_specversion", "1.0"),
                                                           ("ce_id", f"{model}-{i}"), ("ce_source", "test"), ("ce_type", "image")])
                                  for i, (label, value) in picked])
        cls.fleet.wait_idle(60)

    def versions(self, model="default"):
        lines = self.fleet.command("models", "list", model, "--json").stdout.splitlines()
        return {version["version"]: version for version in map(json.loads, lines)}

    def write(self, folder):
        return self.fleet.command("models", "tensorboard", str(folder)).stderr

    def run_of(self, *names):
        events = EventAccumulator(str(self.board.joinpath(*map(str, names))), size_guidance={"images": 0, "tensors": 0, "scalars": 0})
        return events.Reload()

    def check_scalars(self, events, versions):
        """Every figure of every version, once, and no other."""
        wanted = {"global_step": [v["presentations"] for v in versions]}
        for name in FIGURES:
            wanted[name] = [v["training"][name] for v in versions]
            wanted[f"eval/{name}"] = [v["evaluation"][name] for v in versions]
        wanted["eval/ece"] = [v["evaluation"]["ece"] for v in versions]
        self.assertEqual(set(wanted), set(events.Tags()["scalars"]))
        for tag, values in wanted.items():
            points = events.Scalars(tag)
            self.assertEqual([v["presentations"] for v in versions], [p.step for p in points], tag)
            numpy.testing.assert_allclose([p.value for p in points], values, rtol=1e-6, err_msg=tag)
            for point, version in zip(points, versions):
                self.assertEqual(numpy.datetime64(version["time"].rstrip("Z"), "ms"),
                                 numpy.datetime64(round(point.wall_time * 1000), "ms"))

    def test_tensorboard_figures(self):
        self.write(self.board)
        for model in ("default", "dots"):
            versions = self.versions(model)
            self.assertTrue(versions)
            for number, version in versions.items():
                self.check_scalars(self.run_of(model, number), [version])
            self.check_scalars(self.run_of(model), [versions[n] for n in sorted(versions)])

    def test_tensorboard_pictures(self):
        """The newest version has them, and they count what was evaluated; a pruned one has figures alone."""
        self.write(self.board)
        versions = self.versions()
        newest = max(versions)
        events = self.run_of("default", newest)
        images = versions[newest]["evaluation"]["images"]
        self.assertEqual({"eval/confusion", "eval/mistakes"}, set(events.Tags()["images"]))
        for tag in events.Tags()["images"]:
            picture, = events.Images(tag)
            decoded = Image.open(io.BytesIO(picture.encoded_image_string))
            decoded.load()
            self.assertEqual((picture.width, picture.height), decoded.size)
            self.assertGreater(len(decoded.getcolors(1 << 20)), 1, "nothing was drawn")

        tags = {"eval/pr_curves"} | {f"eval/{label}/pr_curves" for label in range(10)}
        self.assertEqual(tags, set(events.Tags()["tensors"]))
        positives = 0
        for tag in tags:
            plugin = plugin_data_pb2.PrCurvePluginData.FromString(events.SummaryMetadata(tag).plugin_data.content)
            self.assertEqual("pr_curves", events.SummaryMetadata(tag).plugin_data.plugin_name)
            point, = events.Tensors(tag)
            table = tensor_util.make_ndarray(point.tensor_proto)
            self.assertEqual((6, plugin.num_thresholds), table.shape)
            tp, fp, tn, fn, precision, recall = table
            self.assertTrue((tp + fp + tn + fn == images * (10 if tag == "eval/pr_curves" else 1)).all(), tag)
            self.assertEqual(1, recall[0], "at the threshold 0 everything is taken")
            self.assertTrue((numpy.diff(recall) <= 0).all())
            numpy.testing.assert_allclose(precision, tp / numpy.maximum(tp + fp, 1e-9), rtol=1e-6)
            if tag != "eval/pr_curves":
                positives += tp[0]
        self.assertEqual(images, positives)

        oldest = self.run_of("default", 1)
        self.assertEqual([], oldest.Tags()["images"] + oldest.Tags()["tensors"])

    def test_tensorboard_again(self):
        self.write(self.board)
        before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in self.board.rglob("*") if path.is_file()}
        self.assertIn(" 0 versions written", self.write(self.board))
        self.assertEqual(before, {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in self.board.rglob("*") if path.is_file()})
        # As after a crash between a version's two files: the same again.
        gone, = (self.board / "default" / str(max(self.versions()))).iterdir()
        gone.unlink()
        self.assertIn(" 1 versions written", self.write(self.board))
        self.assertEqual({path: content for path, (content, _) in before.items()},
                         {path: path.read_bytes() for path in self.board.rglob("*") if path.is_file()})

    def test_tensorboard_of_another_model(self):
        folder = self.scratch / "strange"
        (folder / "default" / "1").mkdir(parents=True)
        (folder / "default" / "1" / "events.out.tfevents.0000000001.strange").write_bytes(b"")
        run = self.fleet.command("models", "tensorboard", str(folder), check=False)
        self.assertEqual(1, run.returncode)
        self.assertIn("choose another DIR", run.stderr)

    def test_tensorboard_follows(self):
        folder = self.scratch / "followed"
        follower = subprocess.Popen([str(live.BUILD / "darkroom"), "models", "tensorboard", str(folder), "--follow"],
                                    env=self.fleet.environment, stderr=subprocess.PIPE, text=True)
        try:
            def has(version):
                return lambda: list((folder / "default" / str(version)).glob("events.out.tfevents.*"))
            last = max(self.versions())
            live.wait_for("the versions that there are", 20, has(last))
            self.teach(200)
            live.wait_for("the next one", 20, has(last + 1))
            began = time.monotonic()
            follower.send_signal(signal.SIGINT)
            said = follower.communicate(timeout=10)[1]
        finally:
            follower.kill()
        self.assertEqual(0, follower.returncode, said)
        self.assertLess(time.monotonic() - began, 5)
        self.assertEqual([], list(folder.rglob(".*")), "half a file is left")

    def export(self, model, name, *words):
        """Of the model, by its name, or that and a version's number."""
        path = self.scratch / name
        self.fleet.command("models", "export", *model.split(), str(path), *words)
        return path

    def test_export_answers_as_predict(self):
        """The exported graph gives what the predict worker gives, to the six places of its answers."""
        path = self.export("default", "default.onnx")
        onnx.checker.check_model(str(path), full_check=True)
        properties = {p.key: p.value for p in onnx.load(path).metadata_props}
        labels = json.loads(properties["darkroom.labels"])
        images = numpy.stack([numpy.array(Image.open(file)).reshape(28, 28, 1) for file in self.files])
        theirs = ask_onnx(path, images)
        lines = self.fleet.command("predict", "--json", *map(str, self.files)).stdout.splitlines()
        answers = {pathlib.Path(answer["file"]).name: answer for answer in map(json.loads, lines)}
        largest = 0
        for file, row in zip(self.files, theirs):
            answer = answers[file.name]
            self.assertEqual(properties["darkroom.version"], str(answer["version"]))
            self.assertEqual(labels[row.argmax()], answer["label"])
            ours = [answer["probabilities"][label] for label in labels]
            largest = max(largest, float(abs(row - ours).max()))
        print(f"largest difference between predict and ONNX Runtime: {largest:.2g}")
        self.assertLess(largest, LIMIT)

    def test_export_forms(self):
        raw = self.export("dots v1", "dots.safetensors")
        version = self.versions("dots")[1]
        self.assertEqual(self.fleet.redis.get(f"{self.fleet.prefix}artifact:{version['artifact']}"), raw.read_bytes())
        said = json.loads(self.fleet.command("models", "export", "dots", "1", "-", "--format", "json").stdout)
        self.assertEqual((version["artifact"], 1, "dots"), (said["artifact"], said["version"], said["model"]))
        self.assertEqual(set(safetensors.numpy.load_file(raw)), set(said["tensors"]))
        graph = onnx.load(self.export("dots", "dots.bin", "--format", "onnx")).graph
        self.assertEqual([0, 28, 20, 3], [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim])

    def test_export_refuses(self):
        for words, code, said in ((("default", "1", "x.onnx"), 1, "is not in Redis"),  # pruned
                                  (("default", "999", "x.onnx"), 1, "has no version 999"),
                                  (("nothing", "x.onnx"), 1, "in service"),
                                  (("default", "x.txt"), 2, "--format"),
                                  (("default", "x", "x.onnx"), 2, "number of a version"),
                                  (("de@fault", "x.onnx"), 2, "name of a model"),
                                  (("default", "/nowhere/x.onnx"), 1, "cannot write")):
            with self.subTest(words):
                run = self.fleet.command("models", "export", *words, check=False, cwd=self.scratch)
                self.assertEqual(code, run.returncode, run.stderr)
                self.assertIn(said, run.stderr)
        self.assertFalse((self.scratch / "x.onnx").exists())


if __name__ == "__main__":
    unittest.main()
