"""A decision is sent away, with what it was made on, while the next reports come in."""

import pickle

from dualpath_ray.scheduler.history import LoadHistory
from dualpath_ray.scheduler.sharing import SharedOut, SharingHistory
from dualpath_ray.scheduler.state import GroupView, NodeLoad


def view(group_id: str) -> GroupView:
    return GroupView(group_id, NodeLoad(group_id, 0, 0, True, 100, ()), ())


def test_a_history_can_be_sent_while_it_grows():
    history = LoadHistory({"p0": view("p0")}, {"d0": view("d0")})

    class Reporting(GroupView):
        """Stands for another thread that reports in the middle of it."""

        def __reduce__(self):
            for number in range(10):
                history.report(view(f"p{number + 1}"))
                history.moment("d0")
            return GroupView, tuple(self)

    history.report(view("p0"))
    moment = history.moment("d0")
    history.report(Reporting(*view("p0")))
    history.report(view("p1"))
    sent = pickle.loads(pickle.dumps(moment))
    assert sent.num_changes == 1 and sent.views() == moment.views()


def test_so_can_the_history_of_sharing_out():
    history = SharingHistory({"d0": 0})
    history.changes.append((5, "d0"))
    choice = SharedOut(history, 1)
    sent = pickle.loads(pickle.dumps(choice))
    history.changes.append((9, "d0"))
    assert sent == choice and sent.totals() == {"d0": 5}
