"""Settings of references in a campaign file, and the inputs that they become."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from aiida.common.exceptions import MultipleObjectsError, NotExistent, ValidationError
from aiida.orm import Dict, Float, Int, List
from pydantic import Field

from aiida_gaprss.outside import lack_of_file
from aiida_gaprss.settings.computer import JobOptions
from aiida_gaprss.settings.faults import Fault
from aiida_gaprss.settings.model import Count, Label, Length, Line, Model


class ReferenceSettings(Model):
    """What stands under the name of a reference that labels frame by frame."""

    code: Label
    options: JobOptions = Field(default_factory=JobOptions, description="of the scheduler job")

    @classmethod
    def lacks(cls, given: Mapping[str, Any], elements: Sequence[str], folder: Path) -> list[Fault]:
        """Return what is wrong with them beside the other settings of a campaign, as far as no profile is needed to tell.

        :param given: as they stand in the file; what is wrong in itself is passed over.
        :param elements: of the campaign; :param folder: what files are relative to.
        """
        return []


class PlaneWaveSettings(ReferenceSettings):
    """Those of a plane-wave code."""

    kpoint_spacing: Length = Field(lt=1.0, description="1/Å, without 2π; the meshes contain Γ")
    parameters: dict[str, Any]
    isolated_parameters: dict[str, Any] | None = Field(None, description="merged into the parameters for isolated atoms")
    retries: list[dict[str, Any]] = Field(
        default_factory=list, description="merged into the parameters, one after another, when a frame has failed"
    )
    max_iterations: Count | None = Field(None, description="how often the plugin by itself runs the code for one attempt")

    def nodes(self) -> dict[str, Any]:
        """Return the inputs that they become."""
        inputs: dict[str, Any] = {"parameters": Dict(self.parameters), "kpoint_spacing": Float(self.kpoint_spacing)}
        if self.isolated_parameters:
            inputs["isolated_parameters"] = Dict(self.isolated_parameters)
        if self.retries:
            inputs["retries"] = List(self.retries)
        if self.max_iterations:
            inputs["max_iterations"] = Int(self.max_iterations)
        return inputs


class PseudosSettings(PlaneWaveSettings):
    """The same with pseudopotentials."""

    #: How the names of pseudopotential files end; what ends otherwise is no file.
    FILES: ClassVar[tuple[str, ...]]

    pseudos: dict[str, Line] | Line

    @classmethod
    def lacks(cls, given: Mapping[str, Any], elements: Sequence[str], folder: Path) -> list[Fault]:
        """Return elements without a pseudopotential, and files of these that do not exist."""
        pseudos = given.get("pseudos")
        if not isinstance(pseudos, dict):
            return []
        missing = [symbol for symbol in elements if symbol not in pseudos]
        found = [Fault(("pseudos",), f"no pseudopotential for {', '.join(missing)}")] if missing else []
        for symbol, text in pseudos.items():
            if isinstance(text, str) and text.lower().endswith(cls.FILES) and (lack := lack_of_file(folder / text)):
                found.append(Fault(("pseudos", symbol), lack))
        return found

    def pseudo_nodes(
        self,
        family: Callable[[str, tuple[str, ...]], dict[str, Any]],
        one: Callable[[str, str, Path], Any],
        elements: Sequence[str],
        folder: Path,
    ) -> tuple[dict[str, Any], list[Fault]]:
        """Return the node of each element, and what is wrong with the others.

        :param family: returns the nodes of the family of a label, for elements.
        :param one: returns the node of an element that a text describes; files are relative to ``folder``.
        """
        if isinstance(self.pseudos, str):
            try:
                return family(self.pseudos, tuple(elements)), []
            except (NotExistent, MultipleObjectsError, ValueError, AttributeError) as exception:
                message = f"no pseudopotential family {self.pseudos!r} for these elements: {exception}"
                return {}, [Fault(("pseudos",), message)]
        nodes, faults = {}, []
        for symbol, text in self.pseudos.items():
            try:
                nodes[symbol] = one(symbol, text, folder)
            except (ValueError, ValidationError) as exception:
                faults.append(Fault(("pseudos", symbol), str(exception)))
            except (OSError, AttributeError, KeyError) as exception:  # the plugins read the files
                faults.append(Fault(("pseudos", symbol), f"{text} cannot be read as a pseudopotential: {exception}"))
        return nodes, faults


def of_element(pseudo: Any, symbol: str, name: str) -> Any:
    """Return a pseudopotential if it is one of an element.

    :param name: of its file.
    :raises ValueError: if it is of another.
    """
    if pseudo.element != symbol:
        raise ValueError(f"{name} is a pseudopotential of {pseudo.element}, not of {symbol}")
    return pseudo
