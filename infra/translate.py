"""Writes what CloudFormation makes of a SAM template, as JSON: what the SAM command line shows only after a deployment.

Usage: python translate.py TEMPLATE, with the Python in which aws-sam-cli is installed.
"""

import json
import os
import sys

from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse


def main(path: str) -> None:
    os.environ.setdefault("AWS_DEFAULT_REGION", "eu-central-1")
    with open(path, encoding="utf-8") as file:
        template = yaml_parse(file.read())
    for resource in template["Resources"].values():
        properties = resource.get("Properties", {})
        for place in ("CodeUri", "ContentUri"):
            if place in properties:
                # `sam package` uploads the file; its path stands for where it will be.
                properties[place] = "s3://artifacts/" + properties[place].removeprefix("../")
    translated = Translator({}, Parser()).translate(template, {})
    json.dump(translated, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
