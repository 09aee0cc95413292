"""Reads back what `kiln export` writes, with the programs that it is for; tests/exports.sh installs them.

    python tests/exports.py KILN

What must be there is taken from the run's own JSON: results.json, timings.json, and the files of its stages.
"""

import json
import math
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from datetime import datetime
from pathlib import Path

folder = Path(tempfile.mkdtemp())
os.environ |= {
    "TRACKIO_DIR": str(folder / "trackio"), "HF_HUB_OFFLINE": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}

import mlflow
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import tensorboard
import trackio
from mlflow.tracking import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trackio.sqlite_storage import SQLiteStorage
from trackio.utils import simplify_column_names

KILN = sys.argv[1]
RUNS = {
    "classes": [
        "ablate", "quickstart", "arms=[]", "experts.order=importance,random", "--seeds", "2", "data.synthetic.train=1000",
        "data.synthetic.dev=200", "train.epochs=2", "latency.repeats=3", 'tracking=["tensorboard"]',
    ],
    "recall": [
        "run", "recall", "seeds=[1]", "data.recall.train=640", "data.recall.dev=64", "data.recall.test=64", "data.epoch=320",
        "train.epochs=2",
    ],
}


def kiln(*arguments):
    done = subprocess.run([KILN, *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, (arguments, done.stderr)
    return done.stdout


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


class Model:
    """A model of a run with one seed, as the run's own files have it."""

    def __init__(self, run, arm, seed):
        self.arm, self.seed, self.status, self.scores = arm["name"], seed["seed"], seed["status"], seed["metrics"]
        self.stage = seed["stages"].get("evaluate", seed["stages"].get("train"))
        # The folder of a model is found by its stages.
        found = [path for path in (run / "arms").glob(f"*/seed-{self.seed}") if (path / "evaluate").resolve().name == self.stage]
        self.dirs = {path.parent.name: path for path in found}
        names = [name for name in self.dirs if re.sub(r"[^\w.=+-]", "_", self.arm) in (name, name[:-9])]
        self.name = names[0]
        self.dir = self.dirs[self.name]
        train = self.dir / "train"
        done = json.loads(((train if train.exists() else self.dir / "evaluate") / "done.json").read_text())
        self.start = float(done["environment"]["started_unix_s"])
        self.end = self.start + done["seconds"]
        self.points = []  # tag, step, seconds, value
        log = lines(train / "training/metrics.jsonl") if train.exists() else []
        last = max((line["step"] for line in log), default=0)
        for line in log:
            kind = "epoch" if line.get("last") and line["split"] == "train" else line["split"]
            at = self.start + (self.end - self.start) * line["step"] / max(last, 1)
            self.points.append((f"{kind}/{line['name']}", line["step"], at, line["value"]))
        self.loads = {}  # by tag: step, seconds, tokens of each expert
        layers = train / "training/layers.jsonl"
        for line in lines(layers) if layers.exists() else []:
            if line["name"] == "load":
                at = self.start + (self.end - self.start) * line["step"] / max(last, 1)
                values = [struct.unpack("<f", struct.pack("<f", value))[0] for value in line["values"]]  # of 32 bits
                self.loads.setdefault(f"experts/load/layer-{line['layer'] + 1}", []).append((line["step"], at, values))
        for name, value in self.scores.items():
            self.points.append((f"eval/{name}", last, self.end, value))

    def by_tag(self):
        tags = {}
        for tag, *rest in self.points:
            tags.setdefault(tag, []).append(tuple(rest))
        return tags


def open_run(name):
    run = folder / name
    results = json.loads((run / "results.json").read_text())
    models = [Model(run, arm, seed) for arm in results["arms"] for seed in arm["seeds"]]
    assert len({(model.name, model.seed) for model in models}) == len(models) > 0
    return run, results, models


def check_tensorboard(name):
    run, _, models = open_run(name)
    kiln("export", name, "--to", "tensorboard")
    compared = histograms = 0
    found = sorted(str(path.relative_to(run / "export/tensorboard").parent) for path in run.glob("export/tensorboard/*/*/*"))
    assert found == sorted(f"{model.name}/seed-{model.seed}" for model in models), found
    for model in models:
        path = run / f"export/tensorboard/{model.name}/seed-{model.seed}"
        reader = EventAccumulator(str(path), size_guidance={"scalars": 0, "tensors": 0, "histograms": 0})
        reader.Reload()
        assert sorted(reader.Tags()["histograms"]) == sorted(model.loads), reader.Tags()
        for tag, loads in model.loads.items():
            events = [(event.step, event.wall_time, list(event.histogram_value.bucket)) for event in reader.Histograms(tag)]
            assert events == loads, (tag, events, loads)
            histograms += len(events)
        expected = model.by_tag()
        assert sorted(reader.Tags()["scalars"]) == sorted(expected), reader.Tags()
        for tag, points in expected.items():
            events = [(event.step, event.wall_time, struct.pack("<f", event.value)) for event in reader.Scalars(tag)]
            assert events == [(step, at, struct.pack("<f", value)) for step, at, value in points], (tag, events, points)
            compared += len(events)
        assert reader.Tags()["tensors"] == ["recipe/text_summary"]
        assert reader.SummaryMetadata("recipe/text_summary").plugin_data.plugin_name == "text"
        recipe = reader.Tensors("recipe/text_summary")[0].tensor_proto.string_val[0].decode()
        assert "    train.epochs = 2\n" in recipe, recipe
    print(f"tensorboard {tensorboard.__version__}: {name}: {len(models)} event files, {compared} scalars and {histograms} histograms equal")


def check_tracking(name):
    """What was written while the trainings went on: each stage once, for the first model that has it."""
    run, _, models = open_run(name)
    compared = 0
    for model in models:
        reader = EventAccumulator(str(run / f"tensorboard/{model.name}/seed-{model.seed}"), size_guidance={"scalars": 0})
        reader.Reload()
        expected = {tag: points for tag, points in model.by_tag().items() if not tag.startswith("eval/")}
        assert sorted(reader.Tags()["scalars"]) == sorted(expected), reader.Tags()
        for tag, points in expected.items():
            events = [(event.step, struct.pack("<f", event.value)) for event in reader.Scalars(tag)]
            assert events == [(step, struct.pack("<f", value)) for step, _, value in points], (tag, events, points)
            assert all(model.start - 1 <= event.wall_time <= time.time() for event in reader.Scalars(tag))
            compared += len(events)
    print(f"tensorboard {tensorboard.__version__}: {name}: {compared} scalars of trainings that were followed equal")


def same(one, other):
    """Whether two columns have the same values, bit for bit."""
    bits = lambda value: struct.pack("<d", value) if isinstance(value, float) else value
    return [bits(value) for value in one] == [bits(value) for value in other]


def float32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def flat(comparison):
    """A comparison as a row."""
    tests = comparison["mcnemar"]
    both, needs, percentile = comparison.get("simultaneous", {}), comparison.get("needs", {}), comparison.get("percentile") or {}
    row = {key: comparison.get(key) for key in ("arm", "reference", "metric", "seeds", "examples", "difference", "se", "df", "low", "high")}
    row |= {"simultaneous_low": both.get("low"), "simultaneous_high": both.get("high"), "alpha_star": both.get("alpha_star")}
    row |= {"percentile_low": percentile.get("low"), "percentile_high": percentile.get("high")}
    row |= {key: comparison.get(key) for key in ("p_sign_flip", "p_adjusted", "p_crossed")}
    row |= {side: sum(test[side] for test in tests) if tests else None for side in ("gained", "lost")}
    row |= {f"needs_{key}": needs.get(key) for key in ("seeds_at_least", "seeds", "examples_alone")}
    return row | {"verdict": comparison["verdict"]["kind"], "sentence": comparison["verdict"]["sentence"]}


def expected_tables(run, results, models):
    """The rows of each table, by its file without its end."""
    arms = {arm["name"]: arm for arm in results["arms"]}
    values = {}
    for arm in results["arms"]:
        for key in arm["set"] if arm["is_arm"] else []:
            values[key] = {json.dumps(other["set"].get(key)) for other in results["arms"] if other["is_arm"]}
    keys = [key for key, found in values.items() if len(found) > 1]
    rows = []
    for model in models:
        seed = next(seed for seed in arms[model.arm]["seeds"] if seed["seed"] == model.seed)
        for metric, value in model.scores.items():
            row = {"arm": model.arm, "reference": results["reference"], "seed": model.seed, "metric": metric, "split": "eval"}
            row |= {"value": value, "examples": seed["examples"].get(metric), "stage": model.stage, "status": model.status}
            rows.append(row | {f"key.{key}": arms[model.arm]["set"].get(key) for key in keys})
    tables = {"results": rows, "comparisons": [flat(comparison) for comparison in results["comparisons"]]}
    timings = json.loads((run / "timings.json").read_text())
    owners = {}
    for arm in results["arms"]:
        for seed in arm["seeds"]:
            for key in seed["stages"].values():
                owners.setdefault(key, set()).add(arm["name"])
    empty = dict.fromkeys(("arm", "stage", "title", "seed", "machine", "round", "ms", "seconds", "peak_memory"))
    rows = []
    for stage in timings["stages"]:
        owner = owners.get(stage["key"], set())
        row = {"arm": min(owner) if len(owner) == 1 else None, "stage": stage["key"], "machine": stage["host"]}
        rows.append(empty | row | {key: stage[key] for key in ("title", "seed", "seconds", "peak_memory")})
    for passes in timings["latencies"]:
        for number, ms in enumerate(passes["ms"]):
            rows.append(empty | {"arm": passes["arm"], "seed": passes["seed"], "round": number, "ms": ms})
    tables["timings"] = rows
    for model in models:
        rows = []
        [examples] = json.loads((model.dir / "evaluate/examples.json").read_text())
        for place, line in enumerate(lines(model.dir / "evaluate/predictions.jsonl")):
            id, groups = examples["ids"][place], examples.get("groups")
            row = {"example": id, "group": groups[place] if groups else None}
            means = {name: parts["mean"][place] for name, parts in sorted(examples["metrics"].items())}
            if "probabilities" in line:
                classes = list(line["probabilities"])
                answer = classes.index(line["label"])
                right = answer if means["accuracy"] == 1 else 1 - answer if len(classes) == 2 else None
                scores = [float32(share) for share in line["probabilities"].values()]
                row |= {"example": f"eval:{id}", "label": right, "prediction": answer, "scores": scores}
            else:
                row |= {"label": line["right"], "prediction": line["answer"], "scores": None}
            rows.append(row | means | dict.fromkeys(("nats", "bytes", "tokens", "start")))
        tables[f"predictions/{model.name}-seed-{model.seed}-eval"] = rows
    return tables


TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64()}


def types(name, rows):
    """The type of each column."""
    found = {}
    for column in rows[0] if rows else []:
        kinds = {type(row[column]) for row in rows if row[column] is not None}
        kind = float if kinds == {int, float} else kinds.pop() if kinds else None
        if kind is not None:
            found[column] = TYPES.get(kind)
    if name.startswith("predictions/"):
        found |= {"label": pa.int32(), "prediction": pa.int32(), "scores": pa.list_(pa.field("element", pa.float32()))}
    return found


def check_tables(name):
    run, results, models = open_run(name)
    tables = expected_tables(run, results, models)
    counted = {}
    for form in ("parquet", "csv"):
        kiln("export", name, "--to", form)
        written = sorted(str(path.relative_to(run / "export" / form).with_suffix("")) for path in run.glob(f"export/{form}/**/*.*"))
        assert written == sorted(tables), written
    for table, rows in tables.items():
        if "predictions" not in table:
            for form in ("parquet", "csv"):
                own = (run / f"{table}.{form}").read_bytes()
                assert own == (run / f"export/{form}/{table}.{form}").read_bytes(), table
        expected = types(table, rows)
        columns = {column: [row[column] for row in rows] for column in (rows[0] if rows else [])}
        parquet = run / f"export/parquet/{table}.parquet"
        file = pq.ParquetFile(parquet)
        meta = file.metadata
        assert meta.num_row_groups == 1 and meta.num_rows == len(rows)
        assert {meta.row_group(0).column(i).compression for i in range(meta.num_columns)} == {"ZSTD"}
        schema = {field.name: field.type for field in file.schema_arrow}
        for column, kind in expected.items():
            assert schema[column] == kind, (table, column, schema[column], kind)
        assert meta.metadata[b"kiln.schema"] == b"1"
        if table.startswith("predictions/"):
            model = next(model for model in models if table.endswith(f"{model.name}-seed-{model.seed}-eval"))
            assert meta.metadata[b"kiln.stage"].decode() == model.stage
            assert meta.metadata[b"kiln.task"].decode() == {"classes": "synthetic", "recall": "recall"}[name]
            assert meta.metadata[b"kiln.metrics"].decode() == {"classes": "accuracy"}.get(name, "recall,recall_beyond,recall_within")
        if not rows:
            continue
        # An empty column of CSV has no type of its own.
        text = {column: pa.string() if kind == pa.list_(pa.float32()) or pa.types.is_list(kind) else kind for column, kind in schema.items()}
        options = pyarrow.csv.ConvertOptions(
            column_types=text, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
        )
        csv = run / f"export/csv/{table}.csv"
        polars = pl.read_parquet(parquet)
        overrides = {column: pl.String if isinstance(kind, pl.List) else kind for column, kind in polars.schema.items()}
        readers = {
            f"pyarrow {pa.__version__}, Parquet": file.read().to_pydict(),
            f"polars {pl.__version__}, Parquet": polars.to_dict(as_series=False),
            f"pyarrow {pa.__version__}, CSV": pyarrow.csv.read_csv(csv, convert_options=options).to_pydict(),
            f"polars {pl.__version__}, CSV": pl.read_csv(csv, schema=overrides).to_dict(as_series=False),
        }
        for reader, found in readers.items():
            assert list(found) == list(columns), (reader, table, list(found))
            for column, values in columns.items():
                cells = found[column]
                if reader.endswith("CSV") and column == "scores":
                    cells = [cell and [float32(number) for number in json.loads(cell)] for cell in cells]
                if column == "scores":
                    assert cells == values, (reader, table, column)
                else:
                    assert same(cells, values), (reader, table, column, cells[:5], values[:5])
            counted[reader] = counted.get(reader, 0) + len(rows) * len(columns)
    for reader, cells in counted.items():
        print(f"{reader}: {name}: {len(tables)} tables, {cells} cells equal")


def check_trackio(name):
    run, _, models = open_run(name)
    kiln("export", name, "--to", "trackio")
    compared = 0
    for model in models:
        csv = run / f"export/trackio/{model.name}-seed-{model.seed}.csv"
        project = f"{name}-{models.index(model)}"
        with open(os.devnull, "w") as silent:
            standard, sys.stdout = sys.stdout, silent
            trackio.import_csv(csv, project=project, name="training")
            sys.stdout = standard
        names = simplify_column_names(csv.read_text().split("\n")[0].strip().split(","))
        rows = {}
        for tag, step, at, value in model.points:
            # The first value of a step says when it was.
            rows.setdefault(step, {"at": at})[names[tag]] = value
        logs = SQLiteStorage.get_logs(project, "training")
        found = {}
        for log in logs:
            at = datetime.fromisoformat(str(log.pop("timestamp"))).timestamp()
            step = log.pop("step")
            found[step] = {"at": at} | log
        assert list(found) == sorted(rows)
        for step, row in rows.items():
            assert abs(found[step].pop("at") - row.pop("at")) < 1e-5
            assert found[step] == row, (step, found[step], row)
            compared += len(row)
    print(f"trackio {trackio.__version__}: {name}: {len(models)} projects, {compared} values equal")


def check_mlflow(url, name):
    run, results, models = open_run(name)
    reports = [json.loads(kiln("export", name, "--to", "mlflow", "--url", url, "--json")) for _ in range(2)]
    assert [entry["created"] for report in reports for entry in report] == [True] * len(models) + [False] * len(models)
    assert [entry["run"] for entry in reports[0]] == [entry["run"] for entry in reports[1]]
    client = MlflowClient(url)
    experiment = client.get_experiment_by_name(results["run"]).experiment_id
    there = {found.info.run_id: found for found in client.search_runs([experiment])}
    assert len(there) == len(models), "a second export makes no new run"
    compared = 0
    for place, (model, entry) in enumerate(zip(models, reports[0])):
        found = there[entry["run"]]
        assert (found.info.run_name, found.info.status) == (f"{model.arm} seed {model.seed}", "FINISHED")
        tags = {"kiln.arm": model.arm, "kiln.seed": str(model.seed), "kiln.stage": model.stage}
        assert {key: value for key, value in found.data.tags.items() if key.startswith("kiln.")} == tags
        ms = lambda seconds: math.floor(seconds * 1000 + 0.5)
        assert (found.info.start_time, found.info.end_time) == (ms(model.start), ms(model.end))
        assert found.data.params["train.epochs"] == "2" and "seeds" not in found.data.params, found.data.params
        expected = model.by_tag()
        assert sorted(found.data.metrics) == sorted(tag.replace("=", ":") for tag in expected), found.data.metrics
        for tag, points in expected.items():
            history = client.get_metric_history(entry["run"], tag.replace("=", ":"))
            history = sorted((point.step, point.timestamp, point.value) for point in history)
            assert history == sorted((step, ms(at), value) for step, at, value in points), tag
            compared += len(history)
        files = sorted(file.path for file in client.list_artifacts(entry["run"]))
        names = ["recipe.toml", "report.html", "results.json", "results.md"]
        expected = [file for file in names if (run / file).exists()] if place == 0 else []
        assert files == expected, files
        for file in files:
            local = client.download_artifacts(entry["run"], file, folder)
            assert Path(local).read_bytes() == (run / file).read_bytes(), file
    print(f"mlflow {mlflow.__version__}: {name}: {len(models)} runs exported twice, {compared} values, parameters, tags, times, files equal")


def serve():
    """`mlflow server` with SQLite on a free port of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).with_name("mlflow"), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts")]
    log = open(folder / "mlflow.log", "w")
    return subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT), f"http://127.0.0.1:{port}"


def wait_for(server, url):
    for _ in range(240):
        try:
            urllib.request.urlopen(url + "/health", timeout=2)
            return
        except OSError:
            assert server.poll() is None, (folder / "mlflow.log").read_text()
            time.sleep(0.5)
    sys.exit((folder / "mlflow.log").read_text())


began = time.monotonic()
server, url = serve()
try:
    for name, arguments in RUNS.items():
        kiln(*arguments, "--out", name, "--store", "store", "--ui", "none")
    check_tracking("classes")
    for name in RUNS:
        check_tensorboard(name)
        check_tables(name)
        check_trackio(name)
    wait_for(server, url)
    for name in RUNS:
        check_mlflow(url, name)
    print(f"done in {time.monotonic() - began:.0f} s")
finally:
    server.terminate()
    server.wait()
    shutil.rmtree(folder)
