"""Builds azure/main.json, the template that Azure deploys, from the readable files in azure/template.

    python3 azure/build.py            # writes azure/main.json
    python3 azure/build.py --check    # exits with 1 if azure/main.json is not what it would write

Needs PyYAML (Debian: python3-yaml). Each file in azure/template holds `parameters`, `variables`, `resources` and
`outputs` of one part. Two tags put in other files: `!text FILE` is its text, `!cloud-config FILE` a whole cloud-init
document, in which `!text` works too.
"""

import json
import pathlib
import sys

import yaml

HERE = pathlib.Path(__file__).parent
SCHEMA = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#"
SECTIONS = "parameters", "variables", "resources", "outputs"


class Loader(yaml.SafeLoader):
    """YAML in which no key may occur twice: PyYAML would keep the last one and say nothing."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key} occurs twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read(file):
    """Reads a YAML file with the two tags."""

    def text(loader, node):
        return (file.parent / loader.construct_scalar(node)).read_text()

    def cloud_config(loader, node):
        return cloud_init(file.parent / loader.construct_scalar(node))

    kind = type("OneFile", (Loader,), {})
    kind.add_constructor("!text", text)
    kind.add_constructor("!cloud-config", cloud_config)
    return yaml.load(file.read_text(), kind)


class Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, so that a person who logs in to a VM can read them."""


Dumper.add_representer(
    str,
    lambda dumper, data: dumper.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None),
)


def cloud_init(file):
    """Returns a cloud-init document in the form that a VM reads."""
    return "#cloud-config\n" + yaml.dump(read(file), Dumper=Dumper, sort_keys=False, width=120, allow_unicode=True)


def template(folder=HERE / "template"):
    """Returns the whole template, and refuses a name that two files declare."""
    whole = {"$schema": SCHEMA, "languageVersion": "2.0", "contentVersion": "1.0.0.0"}
    whole |= {section: {} for section in SECTIONS}
    for file in sorted(folder.glob("*.yaml")):
        for section, entries in read(file).items():
            if section not in SECTIONS:
                sys.exit(f"{file}: {section} is not one of {', '.join(SECTIONS)}")
            for name, entry in entries.items():
                if name in whole[section]:
                    sys.exit(f"{file}: {section}: {name} is declared twice")
                whole[section][name] = entry
    return whole


def main(arguments):
    target = HERE / "main.json"
    text = json.dumps(template(), indent=2, ensure_ascii=False) + "\n"
    if arguments == ["--check"]:
        if not target.exists() or target.read_text() != text:
            print("azure/main.json is out of date: run azure/build.py")
            return 1
        return 0
    target.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
