"""What the package does in this Python, as JSON: run where DFT plugins are hidden. Arguments: a campaign file per reference."""

import importlib
import json
import pkgutil
import sys
from functools import partial
from pathlib import Path

from aiida.cmdline.commands.cmd_verdi import verdi
from aiida.orm import Dict, InstalledCode
from aiida.plugins import CalculationFactory, WorkflowFactory
from aiida.plugins.entry_point import get_entry_point_names
from click.testing import CliRunner

import aiida_gaprss
from aiida_gaprss.cli import cli
from aiida_gaprss.cli.environment import find_pw, load_or_make_profile, local_computer
from aiida_gaprss.reference import per_frame, reference_named
from aiida_gaprss.settings.yamlfile import ConfigError

MODULES = {name: reference_named(name) for name in per_frame()}
OURS = {module.split(".")[0] for one in MODULES.values() for plugin in one.PLUGINS for module in plugin.modules}
PROGRAMS = {"castep": "castep", "vasp": "vasp", "quantumespresso": "pw"}


def modules():
    """Import all of the package, and the scripts of jobs as a job does, from their own folder."""
    sys.path.append(str(Path(aiida_gaprss.__file__).parent / "runners"))
    names = [module.name for module in pkgutil.walk_packages(aiida_gaprss.__path__, "aiida_gaprss.")]
    for name in names:
        importlib.import_module(name)
    return len(names)


def specs():
    """Define the ports of everything that runs."""
    found = []
    for group, factory in (("aiida.workflows", WorkflowFactory), ("aiida.calculations", CalculationFactory)):
        found += [factory(name).spec() for name in get_entry_point_names(group) if name.startswith("gaprss.")]
    return len(found)


def code(name, path="/bin/true", plugin=None):
    return InstalledCode(label=name, computer=local_computer(), filepath_executable=path, default_calc_job_plugin=plugin).store()


def message(act):
    """Return what a call complains about, or None."""
    try:
        said = act()
    except ValueError as exception:
        return f"{type(exception).__name__}: {exception}"
    except (TypeError, KeyError, AttributeError):  # it went on, with inputs that are none
        return None
    if isinstance(said, list):
        return "; ".join(map(str, said)) or None
    return said if isinstance(said, str) else None


def built(program):
    """Return, by the work chain, what the builder says to the program of a reference, alone and with the rest."""
    found = {}
    for name, calculation in (("label", False), ("label_lane", False), ("bundle", True), ("rss", False)):
        for reference in MODULES:
            builder = (CalculationFactory if calculation else WorkflowFactory)(f"gaprss.{name}").get_builder()
            place = builder.label if name == "rss" else builder
            alone, rest = {"code": program}, {"code": program, "parameters": Dict({"ENCUT": 400, "EDIFF": 1e-6})}
            found[f"{name}.{reference}"] = message(lambda place=place, key=reference: setattr(place[key], "code", program))
            for given in (alone, rest):
                said = message(lambda place=place, key=reference, given=given: setattr(place, key, given))
                assert (said is None) or found[f"{name}.{reference}"] in (None, said), said
    return found


def checked(path):
    """Return the faults that ``run --check`` finds, by their place."""
    result = CliRunner().invoke(cli, ["run", str(path), "--check"])
    if isinstance(result.exception, ConfigError):
        return {fault.where: [fault.line, fault.message] for fault in result.exception.faults}
    return {"": [result.exit_code, result.output + repr(result.exception)]}


def main():
    out = {"modules": modules(), "specs": specs(), "imported": sorted(OURS & set(sys.modules))}
    listed = CliRunner().invoke(verdi, ["plugin", "list", "aiida.workflows", "gaprss.rss"])
    out["verdi"] = [listed.exit_code, listed.output]
    load_or_make_profile()
    code("gap_fit", plugin="gaprss.fit")
    code("gaprss-python", sys.executable, "gaprss.label")
    out["still_not_imported"] = sorted(OURS & set(sys.modules))
    for name in MODULES:
        code(PROGRAMS[name])
    out["builder"] = built(code("program"))
    out["check"] = {Path(path).stem: checked(path) for path in sys.argv[1:]}
    for function, inputs in {"submission": ({}, None, False), "bundle_files": ({}, None, {}, False), "missing": ({}, [])}.items():
        acts = {name: partial(getattr(module, function), *inputs) for name, module in MODULES.items()}
        out[function] = {name: message(act) for name, act in acts.items()}
    out["setup"] = find_pw("/bin/true").detail
    print("\n" + json.dumps(out))


main()
