"""The RayJob of rollouts/cpu-demo, rendered and run: a process for each pod with its command, environment, volumes and user, and
a submitter, as the operator would start them. There is no API server, so the autoscaler's container is left out.
"""

import json
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dualpath_ray.ops.kuberay.sizes import sizes
from tests.kuberay import manifests
from tests.kuberay.operator import DASHBOARD_PORT, RayPod, head_service, ray_pod, submitter
from tests.kuberay.pods import Pods, why_not

REASON = manifests.WHY_NOT or why_not()
pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(600),
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]

CLUSTER, SUBMISSION, TOKEN = "dualpath-rollout-t4k2p", "dualpath-rollout-q7xz9", "0123456789abcdef" * 2
WORKERS = ("prefill", "decode", "storage")


class Run:
    """The job, started and over."""

    def __init__(self, folder: Path) -> None:
        self.objects = manifests.render("rollouts/cpu-demo")
        self.job = manifests.only(self.objects, "RayJob")["spec"]
        spec = manifests.cluster_spec(self.objects)
        self.pods = Pods(folder)
        self.ray = {name: ray_pod(spec, name, group, CLUSTER, TOKEN) for name, group in manifests.groups(spec).items()}
        self.peak_bytes = dict.fromkeys(self.ray, 0)
        self.said = ""
        self._folder = folder

    def run(self) -> None:
        head = self.ray["head"]
        self.pods.add(head.name, head.user, head.mounts, services=[head_service(CLUSTER)])
        for worker in WORKERS:
            self.pods.add(self.ray[worker].name, self.ray[worker].user, self.ray[worker].mounts)
        self.pods.add("submitter", self.job["submitterPodTemplate"]["spec"]["securityContext"])
        for pod in self.ray.values():
            self._fill_config_maps(pod)
        self.pods.start(head)
        self._wait(lambda: self.get("api/gcs_healthz", token=None)[1] == "success", "the head")
        for worker in WORKERS:
            self.pods.start(self.ray[worker])
        self._wait(lambda: len(self.nodes()) == len(self.ray), "the workers")
        command, environment = submitter(self.job, CLUSTER, SUBMISSION, TOKEN)
        over = threading.Event()
        watch = threading.Thread(target=self._watch_memory, args=(over,))
        watch.start()
        try:
            self.said = self.pods.run("submitter", command, environment, 240).stdout
        finally:
            over.set()
            watch.join()

    def _fill_config_maps(self, pod: RayPod) -> None:
        for volume, _, _ in pod.mounts:
            if "configMap" in volume:
                folder = self.pods.volume(pod.name, volume["name"])
                folder.mkdir(parents=True)
                data = manifests.only(self.objects, "ConfigMap", volume["configMap"]["name"])["data"]
                for name, text in data.items():
                    (folder / name).write_text(text)

    def _watch_memory(self, over: threading.Event) -> None:
        while not over.wait(3):
            for name, pod in self.ray.items():
                self.peak_bytes[name] = max(self.peak_bytes[name], self.pods.memory_bytes(pod.name))

    def _wait(self, ready: Any, what: str) -> None:
        deadline = time.monotonic() + 150
        while True:
            try:
                if ready():
                    return
            except (RuntimeError, ValueError):
                pass  # nobody listens yet
            ended = self.pods.ended()
            assert not ended and time.monotonic() < deadline, f"{what} did not come up; ended: {ended}\n{self.logs()}"
            time.sleep(0.5)

    def logs(self) -> str:
        return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-3000:]}" for log in self._folder.glob("*.log"))

    def get(self, path: str, token: str | None = TOKEN) -> tuple[int, str]:
        """(status, body) of a page of the dashboard, as the submitter's pod sees it."""
        url = f"http://{self.pods.hosts[head_service(CLUSTER)]}:{DASHBOARD_PORT}/{path}"
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        script = (
            "import json, urllib.error, urllib.request\n"
            f"request = urllib.request.Request({url!r}, headers={headers!r})\n"
            "try:\n    answer = urllib.request.urlopen(request, timeout=10)\n"
            "except urllib.error.HTTPError as error:\n    answer = error\n"
            "print(json.dumps([answer.status, answer.read().decode()]))"
        )
        status, body = json.loads(self.pods.fetch("submitter", script))
        return status, body

    def listed(self, what: str) -> list[dict[str, Any]]:
        """Of Ray's state API."""
        status, body = self.get(f"api/v0/{what}?detail=1&limit=1000")
        assert status == 200, body
        rows: list[dict[str, Any]] = json.loads(body)["data"]["result"]["result"]
        return rows

    def nodes(self) -> list[dict[str, Any]]:
        return [node for node in self.listed("nodes") if node["state"] == "ALIVE"]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    with tempfile.TemporaryDirectory(prefix="dp-k-", ignore_cleanup_errors=True) as temp:
        made = Run(Path(temp))
        try:
            made.run()
            yield made
        finally:
            made.pods.remove()


def test_the_job_succeeds_and_every_token_is_right(run: Run) -> None:
    status, body = run.get(f"api/jobs/{SUBMISSION}")
    assert status == 200 and json.loads(body)["status"] == "SUCCEEDED", f"{run.said[-4000:]}\n{run.logs()}"
    out = Path(run.job["entrypoint"].split("--out ")[1].split()[0])
    assert out.parts[1] == "results", "the claim is mounted there"
    folder = run.pods.volume(run.ray["head"].name, "results").joinpath(*out.parts[2:])
    assert folder.stat().st_uid == run.ray["head"].user["runAsUser"] != 0
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["tokens_identical"] is True and summary["num_wrong_tokens"] == 0
    (ran,) = summary["runs"]
    assert summary["num_tokens_compared"] == ran["generated_tokens"] > 0
    assert ran["hit_tokens"] > 0 and all(ran["snic_bytes"].values()), "both sides read"
    assert f"results: {out}" in run.said


def test_blocks_are_in_the_volume_of_the_storage_pod(run: Run) -> None:
    files = {
        name: [each for each in run.pods.volume(run.ray[name].name, "nvme").rglob("*") if each.is_file()]
        for name in ("head", "storage")
    }
    assert len(files["storage"]) > 50 and files["head"] == []


def test_nobody_without_the_token_is_let_in(run: Run) -> None:
    assert run.get("api/jobs/", token=None)[0] == 401
    assert run.get("api/jobs/", token="x" * 32)[0] in (401, 403)


def test_nodes_have_the_labels_and_resources_of_their_group(run: Run) -> None:
    found = {node["node_ip"]: node for node in run.nodes()}
    for name, pod in run.ray.items():
        node = found[run.pods.hosts[pod.name]]
        group = manifests.groups(run.job["rayClusterSpec"])[name]
        assert group.get("labels", {}).items() <= node["labels"].items()
        cpus = group.get("resources", {}).get("CPU", group["rayStartParams"].get("num-cpus"))
        assert node["resources_total"].get("CPU", 0) == float(cpus)
        assert node["resources_total"]["memory"] == pod.memory_bytes


def test_actors_ran_in_the_pods_of_their_role(run: Run) -> None:
    role_of = {node["node_id"]: node["labels"].get("dualpath-role") for node in run.nodes()}
    ran = {actor["name"]: role_of[actor["node_id"]] for actor in run.listed("actors") if actor["name"]}
    for role in WORKERS:
        assert {where for name, where in ran.items() if name.startswith(f"{role}/")} == {role}


def test_pods_took_no_more_memory_than_is_reckoned_with(run: Run) -> None:
    needs = sizes(manifests.FOLDER / "overlays/cpu-demo/settings.yaml", model=None).needs
    for name, pod in run.ray.items():
        took, need = run.peak_bytes[name], needs[name].memory_bytes
        print(f"{name}: {took / 2**30:.2f} of {need / 2**30:.2f} GiB, limit {pod.memory_bytes / 2**30:.2f} GiB")
        assert 0 < took < need <= pod.memory_bytes
