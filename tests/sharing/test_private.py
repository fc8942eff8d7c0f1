"""What must not leave: looked for in the bytes of the archive itself."""

import gzip
import io
import json
import re
import sqlite3
import time
import zipfile

import numpy as np
import pytest
from aiida.common.links import LinkType
from aiida.orm import CalcJobNode, Computer, Dict, FolderData, InstalledCode, RemoteData, SinglefileData, User
from helpers import tiny_gap

from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.sharing.about import Terms
from aiida_gaprss.sharing.archive import DATABASE
from aiida_gaprss.sharing.private import Licensed, Private, Unreadable
from aiida_gaprss.sharing.verify import verify
from aiida_gaprss.sharing.write import ShareError, share

POTCAR = "  PAW_PBE Si 05Jan2001\n parameters from PSCTR are:\n   END of PSCTR-controll parameters\n local part\n 1.0 2.0\n"

#: What stands in the profile, and in no archive of it.
SECRET = (
    *("ada@cluster.example.org", "Ada Lovelace", "Analytical Engines", "login.cluster.example.org", "/scratch/ada", "/home/ada"),
    *("module load secret", "PSCTR", "project-77", "ada_engine", "job 4711", "said the shell"),
)

PRIVATE = Private.of(["ada@cluster.example.org", "Ada Lovelace", "/home/ada", "login.cluster.example.org"])


def packed(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return out.getvalue()


@pytest.fixture
def job(aiida_profile, silicon_frames):
    """A job as on a cluster, with what it was given and what came back, made by hand."""
    _, user = User.collection.get_or_create(
        "ada@cluster.example.org", first_name="Ada", last_name="Lovelace", institution="Analytical Engines"
    )
    user.store()
    made, computer = Computer.collection.get_or_create("engine", hostname="login.cluster.example.org")
    if made:
        computer.transport_type, computer.scheduler_type = "core.ssh_async", "core.slurm"
        computer.set_workdir("/scratch/ada/{username}/aiida")
        computer.set_prepend_text("module load secret")
        computer.store()
    code = InstalledCode(
        label="pw", computer=computer, filepath_executable="/home/ada/bin/pw.x", prepend_text="module load secret"
    ).store()
    settings = Dict(
        {
            "options": {"prepend_text": "module load secret", "account": "project-77", "resources": {"num_machines": 1}},
            "pseudo_dir": "/home/ada/pseudo/si.upf",
            "asked": "Ada Lovelace <ada@cluster.example.org>",
            "ecutwfc": 30.0,
        }
    ).store()
    node = CalcJobNode(process_type="aiida.calculations:gaprss.label", computer=computer, user=user)
    node.label, node.description = "label of /home/ada/cells.xyz", "for ada@cluster.example.org"
    for key, value in (
        *(("process_label", "LabelCalculation"), ("account", "project-77"), ("remote_workdir", "/scratch/ada/aiida/ab")),
        *(("last_job_info", '{"job_owner": "ada_engine"}'), ("detailed_job_info", {"stdout": "job 4711"}), ("job_id", "4711")),
        *(("exception", 'File "/home/ada/venv/x.py", line 3'), ("exit_status", 0), ("checkpoints", "!!python/object")),
        ("metadata_inputs", {"metadata": {"options": {"custom_scheduler_commands": "#SBATCH -A project-77"}}}),
    ):
        node.base.attributes.set(key, value)
    for name, text in (
        ("_aiidasubmit.sh", "cd /home/ada"),
        (".aiida/job_tmpl.json", "{}"),
        ("POTCAR", POTCAR),
        ("in", "ecut 30"),
    ):
        node.base.repository.put_object_from_bytes(text.encode(), name)
    for name, given in (("code", code), ("settings", settings)):
        node.base.links.add_incoming(given, LinkType.INPUT_CALC, name)
    node.store()
    remote = RemoteData(remote_path="/scratch/ada/aiida/ab", computer=computer)
    folder = FolderData()
    for name, content in (
        ("_scheduler-stderr.txt", b"said the shell"),
        (
            "pw.out",
            b"Program PWSCF on login.cluster.example.org\n pseudo /home/ada/pseudo/si.upf\n http://qe.org/a/b",
        ),
        ("pw.out.gz", gzip.compress(b"outdir /scratch/ada/x/y", mtime=0)),
        ("00000.zip", packed({"OUTCAR": "energy -1.0 by Ada Lovelace", "INCAR": "ENCUT = 500"})),
        ("00001.zip", packed({"POTCAR": POTCAR})),
        ("wave.dat", b"\0\1 Ada Lovelace \0"),
        ("forces.npy", b"\x93NUMPY\0/ab/cd\0"),
        ("numbers.txt", "1/2 3/4 eV/Å/atom, k = (1/2, 0, 0)/2π/a".encode()),
    ):
        folder.base.repository.put_object_from_bytes(content, name)
    frames = [atoms.copy() for atoms in silicon_frames[:3]]
    frames[1].info["label_status"] = "failed: no /scratch/ada/aiida/ab/pw.out"
    for name, made in (("remote_folder", remote), ("retrieved", folder), ("frames", Dataset(frames, "SW"))):
        made.base.links.add_incoming(node, LinkType.CREATE, name)
        made.store()
    node.base.attributes.set("sealed", True)
    return node


def everything(path):
    """All bytes of an archive, unpacked, also what is packed within; names of files; and the database as text."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            found[name] = content
            if content.startswith(b"\x1f\x8b"):
                found[f"{name} unpacked"] = gzip.decompress(content)
            elif content.startswith(b"PK"):
                with zipfile.ZipFile(io.BytesIO(content)) as inner:
                    found |= {f"{name}/{part}": inner.read(part) for part in inner.namelist()}
    return found


def test_nothing_private_leaves(job, tmp_path):
    shared = share([job], tmp_path / "job.aiida", Terms("job"))
    for file in shared.files:
        parts = everything(file) if file.suffix == ".aiida" else {"": file.read_bytes()}
        for name, content in parts.items():
            leaked = [word for word in SECRET if word.encode() in content]
            assert not leaked, (file, name, leaked)
    left_out = shared.card["left_out"]
    assert left_out["files_of_jobs"] == 3
    assert sorted(line.split(" of ")[0] for line in left_out["licensed"]) == ["00001.zip", "POTCAR"]
    assert [line.split(" of ")[0] for line in left_out["unreadable"]] == ["wave.dat"]


def test_what_is_not_private_stays(job, tmp_path):
    share([job], tmp_path / "job.aiida", Terms("job"))
    parts = everything(tmp_path / "job.aiida")
    (tmp_path / DATABASE).write_bytes(parts[DATABASE])
    rows = (
        sqlite3.connect(tmp_path / DATABASE)
        .execute("SELECT node_type, attributes, repository_metadata FROM db_dbnode")
        .fetchall()
    )
    told = {kind: json.loads(attributes) for kind, attributes, _ in rows}
    assert told["data.core.dict.Dict."] == {
        "options": {"resources": {"num_machines": 1}},
        "pseudo_dir": "/not-shared",
        "asked": "not-shared <not-shared>",
        "ecutwfc": 30.0,
    }
    assert told["data.core.code.installed.InstalledCode."]["filepath_executable"] == "pw.x"
    assert told["process.calculation.calcjob.CalcJobNode."]["exit_status"] == 0
    texts = b"\n".join(parts.values()).decode("utf-8", "replace")
    for kept in ("http://qe.org/a/b", "eV/Å/atom, k = (1/2, 0, 0)/2π/a", "ENCUT = 500", "energy -1.0", "/ab/cd"):
        assert kept in texts, kept
    assert "Program PWSCF on not-shared\n pseudo /not-shared\n" in texts
    assert "failed: no /not-shared" in texts


def test_what_the_user_says_stays(job, tmp_path):
    terms = Terms("job of Ada Lovelace", "CC0-1.0", ["Ada Lovelace"], ["Lovelace, A. (1843), /home/ada/is fine"])
    shared = share([job], tmp_path / "job.aiida", terms)
    assert shared.card["authors"] == ["Ada Lovelace"]
    assert "Lovelace, A. (1843), /home/ada/is fine" in (tmp_path / "job.md").read_text("utf-8")


def test_a_leak_is_found_by_reading_it_again(job, tmp_path, monkeypatch):
    """The check does not trust the writer: whatever it forgets is found in the file."""
    for forgotten, message in (
        ("replaced", "names ada@cluster.example.org"),
        ("clean_file", "names login.cluster.example.org"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(Private, forgotten, lambda self, given: given)
            with pytest.raises(ShareError, match=message):
                share([job], tmp_path / "job.aiida", Terms("job"))
        assert list(tmp_path.iterdir()) == [], "nothing is written"


def test_a_potential_that_names_a_path(tmp_path, aiida_profile):
    """Its files are never changed: they would not be those of its hash."""
    folder = tiny_gap(tmp_path / "gap", lambda text: text.replace("at_file=train.xyz", "at_file=/home/ada/train.xyz"))
    node = Potential(folder).store()
    with pytest.raises(ShareError, match=rf"potential <{node.pk}>: its gap.xml names /home/ada/train.xyz.*--as-it-is {node.pk}"):
        share([node], tmp_path / "gap.aiida", Terms("gap"))
    shared = share([node], tmp_path / "gap.aiida", Terms("gap"), as_it_is=[node.uuid])
    assert shared.card["potentials"][0]["gap_fit_command"].startswith("at_file=/not-shared")
    assert verify(tmp_path / "gap.aiida").card["elements"] == node.elements


def test_no_folder_to_write_to(dataset, tmp_path):
    with pytest.raises(ShareError, match="absent: no such folder"):
        share([dataset.store()], tmp_path / "absent" / "data.aiida", Terms("data"))


def test_what_is_running_is_not_shared(tmp_path, aiida_profile):
    node = CalcJobNode(process_type="aiida.calculations:gaprss.label").store()
    with pytest.raises(ShareError, match=f"process <{node.pk}> has not ended: aiida-gaprss resume {node.pk} goes on"):
        share([node], tmp_path / "job.aiida", Terms("job"))


def test_data_alone(dataset, tmp_path):
    node = dataset.store()
    shared = share([node], tmp_path / "data.aiida", Terms("data"))
    assert shared.card["data"][0]["frames"] == node.n_frames
    assert shared.card["contents"]["nodes"] == 1


@pytest.mark.parametrize(
    "text",
    [
        *("/home/ada/x", "see /p/project/x/y.txt.", "-I/opt/x/include", "PATH=/u/ada/bin:/u/ada/lib", "host:/work/ada/x"),
        *('"/scratch/x/y"', "C:/Users/ada/x", "ada.l@uni.example", "(Ada Lovelace)", "file:///home/ada/x"),
    ],
)
def test_private_words(text):
    assert PRIVATE.found(text), text
    clean = PRIVATE.replaced(text)
    assert not PRIVATE.found(clean), clean
    assert not re.search("ada|Ada|project|include", clean), clean


@pytest.mark.parametrize(
    "text",
    [
        *("eV/Å", "meV/atom/K", "1/2/3", "/usr/bin/env python", "/dev/null", "./out/x.save/", "../a/b", "http://a.org/b/c"),
        *("</a><b/>", "and/or", "12/31/2026", "Im-3m/P6_3/mmc", "/tmp", "a @ b", "gap_fit@localhost", "Adam Lovelacey"),
    ],
)
def test_words_that_are_not_private(text):
    assert PRIVATE.replaced(text) == text


def test_a_folder_of_one_part():
    """As the home of root, or the folder where the command runs."""
    private = Private.of(["/root", "/work"])
    for text in ("/root", "in /root.", "/root/x", "cd /work", '"/work"', "HOME=/root"):
        assert private.found(text), text
        assert not re.search("root|work", private.replaced(text)), text
    for text in ("square/rooted", "/roots", "network/workflow", "a/work", "./root"):
        assert private.replaced(text) == text


def test_long_words_take_no_time():
    """The index of a dataset is one word of a hundred thousand letters, and an address may begin at any of them."""
    text = "0123456789abcdef" * 100_000
    begun = time.process_time()
    assert PRIVATE.replaced(f"{text} /{text}") == f"{text} /{text}"
    assert time.process_time() - begun < 5


def test_files_that_cannot_be_cleaned():
    with pytest.raises(Licensed):
        PRIVATE.clean_file(gzip.compress(POTCAR.encode()))
    for content in (gzip.compress(b"x" * 1000)[:-9], packed({"a": "x" * 500})[:-30], gzip.compress(b"a") + gzip.compress(b"b")):
        with pytest.raises(Unreadable):
            PRIVATE.clean_file(content)
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(2**27))
    with pytest.raises(Unreadable, match="grows too large"):
        PRIVATE.clean_file(bomb.getvalue())
    numbers = np.arange(1000.0).tobytes()
    assert PRIVATE.clean_file(numbers) is numbers


def test_licensed_data(aiida_profile, tmp_path):
    """The POTCAR of aiida-vasp stays where it is; the node that names it is shared."""
    potcar = pytest.importorskip("aiida_vasp.data.potcar")
    import recorded

    (tmp_path / "family" / "Si").mkdir(parents=True)
    (tmp_path / "family" / "Si" / "POTCAR").write_text(recorded.potcar("Si"))
    potcar.PotcarData.upload_potcar_family(tmp_path / "family", "to_share", "for tests", stop_if_existing=False)
    named = potcar.PotcarData.get_potcars_dict(["Si"], "to_share", {"Si": "Si"})["Si"]
    job = CalcJobNode(process_type="aiida.calculations:vasp.vasp")
    job.base.links.add_incoming(named, LinkType.INPUT_CALC, "potential__Si")
    job.base.links.add_incoming(named.find_file_node(), LinkType.INPUT_CALC, "by_mistake")
    job.base.links.add_incoming(SinglefileData(io.BytesIO(b"harmless")).store(), LinkType.INPUT_CALC, "other")
    job.store()
    job.base.attributes.set("sealed", True)
    shared = share([job], tmp_path / "vasp.aiida", Terms("vasp"))
    assert len(shared.card["left_out"]["licensed"]) == 1
    content = recorded.potcar("Si").encode()
    assert content not in b"\n".join(everything(tmp_path / "vasp.aiida").values())
    assert shared.card["contents"]["kinds"]["data.vasp.potcar.PotcarData."] == 1
    assert re.search(r"- Si PotcarData \(.*hand Si.*\): only named: have it yourself", (tmp_path / "vasp.md").read_text("utf-8"))


def test_published_pseudopotentials(aiida_profile, tmp_path):
    """They name their authors, and go as they are."""
    from aiida.orm import UpfData

    text = '<UPF version="2.0.1">\nAuthor: Ada Lovelace, ada@cluster.example.org\n<PP_HEADER\n element="Si"\n/></UPF>\n'
    (tmp_path / "Si.upf").write_text(text)
    node = UpfData(tmp_path / "Si.upf").store()
    shared = share([node], tmp_path / "si.aiida", Terms("silicon"))
    assert text.encode() in everything(tmp_path / "si.aiida").values()
    assert shared.card["pseudopotentials"][0]["shared"]
    assert "- Si UpfData (" in (tmp_path / "si.md").read_text("utf-8")
