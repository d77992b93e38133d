"""Print requirements of pyproject.toml for `pip install -r`, one a line.

python .ci/requirements.py [--without NAME ...]

--without leaves out a package.
"""

import argparse
import tomllib
from pathlib import Path


def main() -> None:
    """Print the requirements of netgen and of its test extra."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without", nargs="*", default=[])
    arguments = parser.parse_args()
    project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text())["project"]
    for requirement in [*project["dependencies"], *project["optional-dependencies"]["test"]]:
        specifier, _, marker = requirement.partition(";")
        name = specifier.split(">=")[0].strip()
        if name not in arguments.without:
            print(f"{specifier.strip()}; {marker.strip()}" if marker else specifier.strip())


if __name__ == "__main__":
    main()
