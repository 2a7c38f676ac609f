"""Compares the users of RabbitMQ that a script creates with those that rendered manifests create.

    python users.py MANIFESTS SCRIPT

The script has a table of them: a line is `user tags configure write read`, and `-` stands for nothing. Exits with 0 if they
are the same, otherwise 2.
"""

import pathlib
import re
import sys

import yaml

from manifests import of_kind


def table(script):
    """Returns the rights of each user in a script's table."""
    rows = re.search(r"^users='\n(.*?)\n'$", script, re.MULTILINE | re.DOTALL)
    fields = [["" if field == "-" else field for field in row.split()] for row in rows[1].splitlines()] if rows else []
    return {name: tuple(rights) for name, *rights in fields}


def created(manifests):
    """Returns the rights of each user that manifests create."""
    rights = {p["spec"]["userReference"]["name"]: p["spec"]["permissions"] for p in of_kind(manifests, "Permission")}
    users = {user["metadata"]["name"]: ",".join(user["spec"].get("tags", [])) for user in of_kind(manifests, "User")}
    return {
        name: (tags, *(rights[name][right] for right in ("configure", "write", "read"))) for name, tags in users.items()
    }


def main():
    manifests = [m for m in yaml.safe_load_all(pathlib.Path(sys.argv[1]).read_text()) if m]
    expected, found = created(manifests), table(pathlib.Path(sys.argv[2]).read_text())
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            print(f"{sys.argv[2]}: the user {name} is {found.get(name)}, and in the manifests {expected.get(name)}")
    return 0 if expected == found else 2


if __name__ == "__main__":
    sys.exit(main())
