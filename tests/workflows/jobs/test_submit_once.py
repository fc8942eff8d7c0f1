"""A step that is done again, as its worker went away in it: what it had submitted is taken up, what it had only made is not."""

import pytest
from aiida.engine import WorkChain
from aiida.orm import Int, Str, load_node
from plumpy import ProcessState

from aiida_gaprss.workflows.jobs.failure import reason_of_failure
from aiida_gaprss.workflows.jobs.submit_once import SENT, SubmitOnceWorkChain, called


class Child(WorkChain):
    """Has a result."""

    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.output("result")
        spec.outline(cls.end)

    def end(self):
        self.out("result", Int(1).store())


class Parent(SubmitOnceWorkChain):
    """Does a step that a worker before it has begun, and got so far with."""

    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.input("so_far", valid_type=Str)
        spec.outline(cls.begin_child, cls.end)
        spec.exit_code(400, "ERROR_CHILD", message="the child gave nothing")

    def begin_child(self):
        so_far = self.inputs.so_far.value
        if so_far != "nothing":
            child = self.runner.instantiate_process(Child, metadata={"call_link_label": "child_1"})
            self.node.base.extras.set("before", child.pid)
            if so_far == "made":  # a state comes with the first checkpoint
                child.node.set_process_state(None)
                child.node.delete_checkpoint()
            elif so_far == "sent":
                self.node.base.extras.set(SENT, [child.pid])
            elif so_far in ("waiting", "finished"):
                child.node.set_process_state(ProcessState(so_far))
        if so_far == "unnamed":
            self.submit(Child)
        # A label that the filter of AiiDA's links takes for the same.
        self.submit(Child, metadata={"call_link_label": "childx1"})
        submitted = self.submit(Child, metadata={"call_link_label": "child_1"})
        self.node.base.extras.set("submitted", submitted.pk)
        if submitted.pk != self.node.base.extras.get("before", None):
            self.to_context(child=submitted)

    def end(self):
        if "child" in self.ctx and not self.ctx.child.is_finished_ok:
            return self.exit_codes.ERROR_CHILD
        return None


@pytest.mark.parametrize("so_far", ["nothing", "made", "stored"])
def test_what_nobody_can_begin_is_replaced(run, so_far):
    _, node = run(Parent, so_far=Str(so_far))
    assert node.is_finished_ok, node.exit_message
    submitted = load_node(node.base.extras.get("submitted"))
    assert submitted.is_finished_ok
    assert called(node, "child_1").pk == submitted.pk
    before = node.base.extras.get("before", None)
    assert (before is None) == (so_far == "nothing")
    if before:
        dead = load_node(before)
        assert dead.pk != submitted.pk
        assert dead.is_killed, "a late message does not begin it: AiiDA looks at the state"
        assert dead.is_sealed
        assert "never begun" in dead.process_status
        assert "never" not in reason_of_failure(node), "it is not why something failed"


@pytest.mark.parametrize("so_far", ["sent", "waiting", "finished"])
def test_what_has_begun_or_will_is_taken_up(run, so_far):
    _, node = run(Parent, so_far=Str(so_far))
    assert node.is_finished_ok, node.exit_message
    assert node.base.extras.get("submitted") == node.base.extras.get("before")
    assert len(node.called) == 2, "it, and the one of another label"


def test_what_has_no_label_of_its_own_is_refused(run):
    with pytest.raises(ValueError, match=r"Child needs metadata\.call_link_label"):
        run(Parent, so_far=Str("unnamed"))
