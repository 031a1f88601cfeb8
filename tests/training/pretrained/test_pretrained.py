"""Public weights by name: fetched over HTTPS alone, checked, kept, and explained where that is not possible."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from helpers.servers.https import Site, certificate, https_site

from reid_edge.api.known_models import KnownWeights
from reid_edge.api.train_plan import planned_run
from reid_edge.core.registry import _registered
from reid_edge.data.synthetic.dataset import synthesize
from reid_edge.errors import InputError, ModelError
from reid_edge.training.models.names import check_architecture
from reid_edge.training.options import StartFrom, Teacher
from reid_edge.training.pretrained import fetch as fetching
from reid_edge.training.pretrained.fetch import FetchError, fetch
from reid_edge.training.pretrained.locate import architecture_of, cached, find_weights, weights_name
from reid_edge.training.pretrained.rows import WEIGHTS, PretrainedWeights, imagenet_weights
from reid_edge.training.recipe.recipes import recipe_for
from reid_edge.training.run_record import RunRequest

BODY = bytes(range(256)) * 4096  # 1 MB
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl, which makes the server's certificate")
    return certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def site(pem: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    monkeypatch.setenv("no_proxy", "localhost")
    with https_site(pem) as running:
        yield running


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder; nothing of torch's is found either."""
    monkeypatch.setenv("REID_EDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "cache" / "weights"


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield
    _registered.pop("weights", None)


@pytest.fixture(scope="module")
def drawn_people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "set"
    return synthesize(folder, identities=2, test_identities=2, cameras=2, size_hw=(64, 32), progress=False)


def _row(**fields: object) -> PretrainedWeights:
    common = {"architecture": "osnet_x0_25", "trained_on": "bytes", "file": "w.pth", "page": "https://page"}
    return PretrainedWeights(**{**common, **fields})  # type: ignore[arg-type]


def _left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def _one_line(caught: pytest.ExceptionInfo[InputError]) -> str:
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- the download ---


def test_a_file_is_fetched_whole_and_its_hash_returned(site: Site, tmp_path: Path) -> None:
    url = site.serve("/w.pth", BODY)
    assert fetch(url, tmp_path / "out" / "w.pth", sha256=SHA256[:8], most_bytes=len(BODY)) == SHA256
    assert (tmp_path / "out" / "w.pth").read_bytes() == BODY and _left(tmp_path / "out") == ["w.pth"]


def test_a_broken_connection_is_taken_up_where_it_broke(site: Site, tmp_path: Path) -> None:
    url = site.serve("/w.pth", BODY, cut_at=400_000)
    assert fetch(url, tmp_path / "w.pth", most_bytes=len(BODY)) == SHA256
    assert [span for _, span in site.requests] == [None, "bytes=400000-", "bytes=800000-"]


def test_a_server_without_ranges_begins_again_and_what_never_ends_is_given_up(site: Site, tmp_path: Path) -> None:
    url = site.serve("/w.pth", BODY, cut_at=400_000, ranges=False)
    with pytest.raises(FetchError, match="ended early after 400,000 bytes"):
        fetch(url, tmp_path / "w.pth", most_bytes=len(BODY))
    assert len(site.requests) == 2 and _left(tmp_path) == []  # the second brought nothing that the first had not


def test_a_damaged_body_is_refused_and_the_file_of_before_stays(site: Site, tmp_path: Path) -> None:
    url = site.serve("/w.pth", BODY[:-1] + b"\0")
    (tmp_path / "w.pth").write_bytes(b"before")
    with pytest.raises(ModelError, match="answers another file") as caught:
        fetch(url, tmp_path / "w.pth", sha256=SHA256, most_bytes=len(BODY))
    assert "--weights FILE" in _one_line(caught)
    assert (tmp_path / "w.pth").read_bytes() == b"before" and _left(tmp_path) == ["w.pth"]


@pytest.mark.parametrize("announced", [True, False])
def test_more_than_the_published_size_is_refused_before_it_fills_the_disk(
    site: Site, tmp_path: Path, announced: bool
) -> None:
    url = site.serve("/w.pth", BODY)
    if not announced:

        def endless(request: object) -> None:
            request.send_response(200)  # type: ignore[attr-defined]
            request.end_headers()  # type: ignore[attr-defined]
            for _ in range(1000):
                request.wfile.write(BODY)  # type: ignore[attr-defined]

        site.answers["/w.pth"] = _until_closed(endless)
    with pytest.raises(ModelError, match="more than 1,000,000 bytes"):
        fetch(url, tmp_path / "w.pth", most_bytes=1_000_000)
    assert _left(tmp_path) == []


def _until_closed(answer: object) -> object:
    def quiet(request: object) -> None:
        try:
            answer(request)  # type: ignore[operator]
        except OSError:  # the client hung up, as it should
            pass

    return quiet


def test_redirects_are_followed_over_https_alone(site: Site, tmp_path: Path) -> None:
    site.serve("/w.pth", BODY)
    assert fetch(site.redirect("/there", "/w.pth"), tmp_path / "w.pth", most_bytes=len(BODY)) == SHA256
    for target in ("http://localhost:1/w.pth", "file:///etc/passwd", "ftp://localhost/w.pth"):
        with pytest.raises(FetchError, match="which is not https|is not allowed"):
            fetch(site.redirect("/away", target), tmp_path / "x.pth", most_bytes=len(BODY))
    with pytest.raises(FetchError, match="only https://"):
        fetch("http://localhost/w.pth", tmp_path / "x.pth", most_bytes=1)
    assert _left(tmp_path) == ["w.pth"]


@pytest.mark.parametrize("target", ["https://[bad/w.pth", f"https://{'a' * 70}.example/w.pth", "https://h:port/w"])
def test_a_redirect_to_what_is_no_address_is_one_line(site: Site, tmp_path: Path, target: str) -> None:
    with pytest.raises(FetchError, match="cannot be fetched") as caught:
        fetch(site.redirect("/away", target), tmp_path / "w.pth", most_bytes=1)
    assert site.url in _one_line(caught) and _left(tmp_path) == []


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_the_body_of_a_redirect_is_not_read(site: Site, tmp_path: Path, code: int) -> None:
    """One without an end would fill the memory."""
    site.serve("/w.pth", BODY)

    def endless(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        request.send_header("Location", "/w.pth")
        request.end_headers()
        for _ in range(10_000):  # 10 GB
            request.wfile.write(BODY)

    site.answers["/away"] = endless
    assert fetch(f"{site.url}/away", tmp_path / "w.pth", most_bytes=len(BODY)) == SHA256


def test_a_length_that_is_no_number_is_one_line(site: Site, tmp_path: Path) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "many")
        request.end_headers()

    site.answers["/w.pth"] = answer
    with pytest.raises(FetchError, match="malformed answer") as caught:
        fetch(f"{site.url}/w.pth", tmp_path / "w.pth", most_bytes=1)
    _one_line(caught)


def test_a_certificate_that_is_not_trusted_is_refused(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = site.serve("/w.pth", BODY)
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(FetchError, match="(?i)certificate"):
        fetch(url, tmp_path / "w.pth", most_bytes=len(BODY))
    assert site.requests == [] and _left(tmp_path) == []


def test_a_missing_file_and_a_missing_network_are_one_line(site: Site, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="HTTP 404"):
        fetch(f"{site.url}/none.pth", tmp_path / "w.pth", most_bytes=1)
    with socket.socket() as closed:
        closed.bind(("localhost", 0))
        url = f"https://localhost:{closed.getsockname()[1]}/w.pth"
        with pytest.raises(FetchError, match="refused") as caught:
            fetch(url, tmp_path / "w.pth", most_bytes=1)
    _one_line(caught)


def test_a_fetch_that_is_interrupted_leaves_nothing(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fetching, "raise_if_stopped", stop)
    with pytest.raises(KeyboardInterrupt):
        fetch(site.serve("/w.pth", BODY), tmp_path / "w.pth", most_bytes=len(BODY))
    assert _left(tmp_path) == []


# --- by name ---


def test_known_weights_are_fetched_once_and_their_whole_hash_is_kept(site: Site, cache: Path, register: None) -> None:
    url = site.serve("/w.pth", BODY)
    WEIGHTS.register("bytes", _row(url=url, sha256=SHA256[:8], licence="MIT", terms="none"))
    assert find_weights("bytes", "osnet_x0_25") == find_weights("bytes") == cache / "w.pth"
    assert len(site.requests) == 1
    record = json.loads((cache / "w.pth.json").read_text())
    assert record["sha256"] == SHA256 and record["bytes"] == len(BODY) and record["licence"] == "MIT"


def test_a_file_that_changed_in_the_cache_is_refused(site: Site, cache: Path, register: None) -> None:
    """Eight digits of a hash are few: the record of the first use holds all."""
    WEIGHTS.register("bytes", _row(url=site.serve("/w.pth", BODY)))
    path = find_weights("bytes")
    path.write_bytes(BODY + b"more")
    with pytest.raises(ModelError, match="is not the file that bytes is") as caught:
        find_weights("bytes")
    assert "delete it" in _one_line(caught)
    path.unlink()
    assert find_weights("bytes").read_bytes() == BODY
    (cache / "w.pth.json").write_text("{")
    with pytest.raises(ModelError, match=r"w\.pth\.json is damaged: delete it"):
        find_weights("bytes")


def test_offline_the_error_names_the_file_to_copy_and_where(cache: Path, register: None) -> None:
    with socket.socket() as closed:
        closed.bind(("localhost", 0))
        url = f"https://localhost:{closed.getsockname()[1]}/w.pth"
        WEIGHTS.register("bytes", _row(url=url, page=url, sha256=SHA256))
        with pytest.raises(InputError) as caught:
            find_weights("bytes")
    assert f"get {url} on another machine and copy it to {cache / 'w.pth'}" in _one_line(caught)
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "w.pth").write_bytes(BODY)
    assert find_weights("bytes") == cache / "w.pth"


def test_weights_behind_a_browser_are_copied_by_hand_and_remembered(cache: Path, register: None) -> None:
    WEIGHTS.register("bytes", _row())
    with pytest.raises(InputError, match="not fetched, as their page asks for a browser: get https://page") as caught:
        find_weights("bytes")
    assert str(cache / "w.pth") in _one_line(caught)
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "w.pth").write_bytes(BODY)
    assert find_weights("bytes") == cache / "w.pth"
    assert json.loads((cache / "w.pth.json").read_text())["sha256"] == SHA256


def test_what_torchvision_or_torchreid_fetched_before_is_used(cache: Path, tmp_path: Path, register: None) -> None:
    WEIGHTS.register("bytes", _row(sha256=SHA256))
    for folder in (tmp_path / "torch" / "hub" / "checkpoints", tmp_path / "torch" / "checkpoints"):
        folder.mkdir(parents=True)
        (folder / "w.pth").write_bytes(BODY)
        assert find_weights("bytes") == folder / "w.pth"
        (folder / "w.pth").unlink()


def test_imagenet_is_that_of_the_architecture() -> None:
    assert weights_name("imagenet", "resnet50_bot") == "resnet50_imagenet"
    assert weights_name("imagenet", "resnet50_seed") == "resnet50_imagenet"
    assert weights_name("imagenet", "osnet_x0_25_seed") == "osnet_x0_25_imagenet"
    with pytest.raises(InputError, match="no ImageNet weights of osnet_x1_25 are known, but of resnet50_bot"):
        weights_name("imagenet", "osnet_x1_25")
    with pytest.raises(InputError, match="give --arch NAME"):
        weights_name("imagenet")


def test_a_wrong_name_and_a_wrong_architecture_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean osnet_x0_25_msmt17"):
        weights_name("osnet_x025_msmt17")
    with pytest.raises(InputError, match="weights of osnet_x0_25, not of osnet_x1_0: give --arch osnet_x0_25"):
        find_weights("osnet_x0_25_msmt17", "osnet_x1_0")
    assert architecture_of("osnet_x0_25_msmt17") == "osnet_x0_25" and architecture_of(tmp_path / "m.pth") is None
    (tmp_path / "plain").write_bytes(BODY)
    assert find_weights(tmp_path / "plain") == tmp_path / "plain"


def test_a_folder_of_crops_hides_no_weights_and_a_file_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("imagenet", "osnet_x0_25_msmt17", "runs"):
        Path(name).mkdir()
    assert weights_name("imagenet", "resnet50_bot") == "resnet50_imagenet"
    assert weights_name("osnet_x0_25_msmt17") == "osnet_x0_25_msmt17"
    with pytest.raises(InputError, match="runs is a folder"):
        find_weights("runs")
    Path("resnet50_imagenet").write_bytes(BODY)
    assert find_weights("resnet50_imagenet") == Path("resnet50_imagenet")


def test_weights_in_a_cache_that_cannot_be_written_are_used(
    cache: Path, register: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container's image. Root may write anywhere, so the refusal is the system's word alone."""
    WEIGHTS.register("bytes", _row(sha256=SHA256))
    cache.mkdir(parents=True)
    (cache / "w.pth").write_bytes(BODY)
    monkeypatch.setattr("reid_edge.training.pretrained.locate.write_text", _refused)
    assert find_weights("bytes") == cache / "w.pth"
    assert _left(cache) == ["w.pth"]


def _refused(*_: object) -> None:
    raise OSError(30, "Read-only file system")


def test_every_row_can_be_trained_and_says_where_it_is_from() -> None:
    assert len({row.file for row in WEIGHTS.own.values()}) == len(WEIGHTS.own)
    for row in WEIGHTS.own.values():
        check_architecture(row.architecture)
        assert row.page.startswith("https://") and row.url in ("", row.page) and row.licence and row.terms
        assert not row.sha256 or set(row.sha256) <= set("0123456789abcdef") and len(row.sha256) in (8, 64)
        assert not row.url or row.sha256, "what is fetched by itself is checked"
    assert set(imagenet_weights()) >= {"resnet50_bot", "mobilenetv3_large", "osnet_x0_25", "osnet_x1_0"}


def test_a_run_records_the_file_that_a_name_stood_for(
    site: Site, cache: Path, register: None, drawn_people: Path
) -> None:
    """``--finetune NAME`` alone also names the architecture; the network is asked after all else was checked."""
    WEIGHTS.register("bytes", _row(url=site.serve("/w.pth", BODY)))
    asked = RunRequest(start=StartFrom(finetune="bytes"), teacher=Teacher(model="bytes"))
    with pytest.raises(InputError, match="does not exist"):
        planned_run(asked, [cache / "nothing"], cache / "run")
    assert site.requests == []
    record, _ = planned_run(asked, [drawn_people], cache / "run")
    assert record.start.file == cache / "w.pth" and record.start_sha256 == SHA256 == record.teacher_sha256
    assert record.config == recipe_for("osnet_x0_25", recipe="finetune")
    assert record.teacher == Teacher(model=str(cache / "w.pth"), arch="osnet_x0_25")


def test_the_list_says_how_each_file_is_had(cache: Path) -> None:
    def known(row: PretrainedWeights) -> KnownWeights:
        return KnownWeights(name="any", row=row, path=cached(row))

    assert known(WEIGHTS["osnet_x1_0_imagenet"]).how == "fetched"
    assert known(WEIGHTS["osnet_x1_0_msmt17"]).how == known(_row()).how == "by hand"
    cache.mkdir(parents=True)
    (cache / "w.pth").write_bytes(BODY)
    assert known(_row()).how == "here" and known(_row()).to_dict()["path"] == str(cache / "w.pth")
