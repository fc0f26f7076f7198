"""How fast it is: each figure beside its raw ceiling or a peer, measured in the same run on the same machine.

`rounds` takes turns between the two, `material` makes what is measured, the other modules hold one kind of figure each.
"""
