"""What a job asks of a cluster, whatever the command line and the profiles say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.api import SnakemakeApi
from snakemake.resources import Resources
from snakemake.settings.enums import Quietness
from snakemake.settings.types import ConfigSettings, OutputSettings, ResourceSettings
from snakemake_executor_plugin_slurm.submit_string import get_submit_command
from snakemake_executor_plugin_slurm.utils import set_gres_string
from tests.workflow import dag

from swift_debias.config import cluster
from swift_debias.errors import UserError

PROJECT = Path(__file__).resolve().parents[2]
PROFILES = PROJECT / "profiles"
GIVEN = {
    "account": "lab",
    "qos": "long",
    "constraint": "intel&ib",
    "mail": "me@example.org",
    "mail_when": ["FAIL", "TIME_LIMIT"],
    "extra": "--nice=100",
}


def write(folder: Path, **values: Any) -> Path:
    path = folder / "cluster.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


# --- the file -------------------------------------------------------------------------------------


def test_the_file_that_is_shipped_asks_for_nothing_and_shows_every_key(tmp_path: Path) -> None:
    path = PROFILES / "slurm" / "cluster.yaml"
    assert cluster.read(path) == cluster.Cluster() == cluster.read(tmp_path / "none.yaml")
    keys = re.findall(r"^# (\w+): (.+)$", path.read_text(), re.MULTILINE)
    assert [key for key, _ in keys] == list(cluster.Cluster.model_fields)
    for key, value in keys:  # each example is one that is taken
        (tmp_path / "one.yaml").write_text(f"{key}: {value}\n")
        assert getattr(cluster.read(tmp_path / "one.yaml"), key)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"acount": "lab"}, "unknown key 'acount'; did you mean 'account'"),
        ({"account": "my lab"}, "account: is no single word"),
        ({"mail": "me@x; rm -r ."}, "mail: is no single word"),
        ({"gres": "gpu a100"}, "gres: is not NAME, NAME:NUMBER or NAME:TYPE:NUMBER"),
        ({"stage": "yes"}, "stage: Input should be a valid boolean"),
        ({"extra": ""}, "extra: String should have at least 1 character"),
    ],
)
def test_a_mistake_is_told_with_the_file(tmp_path: Path, values: dict, said: str) -> None:
    path = write(tmp_path, **values)
    with pytest.raises(UserError, match=re.escape(f"{path}: ")) as refused:
        cluster.read(path)
    assert said in str(refused.value)


# --- the jobs -------------------------------------------------------------------------------------


def command(job: Any) -> str:
    """The plugin's own `sbatch` of a job."""
    names = ("run_uuid", "slurm_logfile", "comment_str", "workdir")
    params = dict.fromkeys(names, "x") | {"account": "", "partition": ""}
    return get_submit_command(job, params) + set_gres_string(job)


@pytest.mark.slow
def test_every_job_asks_for_what_the_cluster_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWIFT_CLUSTER", str(write(tmp_path, **GIVEN, gpu_model="a100")))
    target = "results/demo/importance/cxr/small_resnet/sex/fold0.safetensors"
    with dag.jobs_of(tmp_path, PROJECT / "config" / "demo.yaml", targets={target}) as (jobs, names):
        heavy = names["USES_GPU"]
        assert {"train_baseline", "importance"} == {*heavy} & {*jobs} < {*jobs}
        for rule, found in jobs.items():
            said = command(found[0])
            assert "-C 'intel&ib' --qos=long" in said, rule
            assert "--mail-user=me@example.org --mail-type=FAIL,TIME_LIMIT --nice=100" in said
            assert found[0].resources.slurm_account == "lab"
            assert ("--gpus=a100:1" in said) == (rule in heavy), rule
            assert re.search(r" -t \d+ .*--mem \d+", said), rule
            assert found[0].resources.turn == 1


def defaults(words: list[str]) -> ResourceSettings:
    """As the command line gives them: with what Snakemake takes for a default by itself."""
    found = Resources.parse(words, allow_expressions=True, defaults="full")
    return ResourceSettings(cores=1, default_resources=found)


@pytest.mark.slow
@pytest.mark.parametrize("asked", [["slurm_account=mine"], ["mem_mb=77", "runtime=5"]])
def test_defaults_of_the_command_line_take_nothing_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    """They hold for what they name; a rule's own memory and time go before, as everywhere."""
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path, account="lab", gres="gpu:a100:1")
    monkeypatch.setenv("SWIFT_CLUSTER", str(file))
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        workflow = api.workflow(
            resource_settings=defaults(asked),
            config_settings=ConfigSettings(configfiles=[PROJECT / "config" / "demo.yaml"]),
            snakefile=PROJECT / "workflow" / "Snakefile",
        )._workflow

        def of(rule: str, name: str) -> Any:
            found = workflow.get_rule(rule).resources[name]
            context = {"input": [], "attempt": 2, "threads": 1, "rulename": rule, "async_run": None}
            return found.evaluate({}, **context).value

        own = dict(word.split("=") for word in asked)
        assert of("table", "mem_mb") == int(own.get("mem_mb", 4000))
        assert of("table", "runtime") == int(own.get("runtime", 20))
        assert of("find_duplicates", "mem_mb") == 8000
        for rule in ("table", "find_duplicates", "debias"):
            assert of(rule, "slurm_account") == own.get("slurm_account", "lab")
            assert (of(rule, "cpus_per_task"), of(rule, "turn")) == (1, 1)
        assert of("debias", "gres") == "gpu:a100:1"
        assert workflow.get_rule("table").resources["gpu"] == 0


# --- the profiles ---------------------------------------------------------------------------------


def profile(name: str) -> dict[str, Any]:
    return yaml.safe_load((PROFILES / name / "config.yaml").read_text())


def test_no_profile_holds_what_the_command_line_would_take_away() -> None:
    for folder in PROFILES.iterdir():
        found = profile(folder.name)
        assert "set-resources" not in found
        assert found.get("default-resources") in (None, ["tmpdir=system_tmpdir"])


def test_all_profiles_agree_on_what_reruns_a_job() -> None:
    """That of profiles/default is laid on every other."""
    (only,) = profile("default")
    assert only == "rerun-triggers"
    found = {tuple(profile(folder.name).get(only, ())) for folder in PROFILES.iterdir()}
    assert found == {("mtime", "params", "input"), ()}
