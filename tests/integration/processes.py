"""The processes of this machine, from /proc."""
import os
import pathlib


def table():
    """pid -> (name, parent, state)"""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = pathlib.Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue  # it has ended
            name, rest = stat[stat.index("(") + 1:stat.rindex(")")], stat[stat.rindex(")") + 2:].split()
            found[int(entry)] = (name, int(rest[1]), rest[0])
    return found


def below(pid):
    """All that descend from it, as in table()."""
    found, out, todo = table(), {}, [pid]
    while todo:
        parent = todo.pop()
        for child, row in found.items():
            if row[1] == parent:
                out[child] = row
                todo.append(child)
    return out
