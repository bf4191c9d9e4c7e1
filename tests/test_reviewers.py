"""What reviewers read says what the project says: metadata, the draft of a paper, and the checklist."""

import json
import re
import tomllib

import yaml

from hvae_core.claims.publish import PUBLISHED, WEIGHTS
from hvae_core.files import ROOT

CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_all_say_the_same_of_the_software():
    zenodo, codemeta = (json.loads((ROOT / name).read_text()) for name in (".zenodo.json", "codemeta.json"))
    for name, said in (("title", "name"), ("description", "description")):
        assert zenodo[name] == codemeta[said]
    assert zenodo["title"] == CITATION["title"] == PROJECT["name"]
    assert zenodo["description"] == PROJECT["description"]
    assert zenodo["version"] == codemeta["version"] == CITATION["version"] == PROJECT["version"]
    authors = [author["name"] for author in CITATION["authors"]]
    assert [author["name"] for author in zenodo["creators"]] == authors
    assert [author["name"] for author in codemeta["author"]] == authors
    licences = PROJECT["license"].split(" AND ")
    assert [url.rpartition("/")[2] for url in codemeta["license"]] == licences
    assert zenodo["license"].upper() == CITATION["license"] == licences[0]
    assert codemeta["runtimePlatform"] == f"Python {PROJECT['requires-python']}"
    papers = [paper["title"] for paper in CITATION["references"]]
    assert [paper["name"] for paper in codemeta["referencePublication"]] == papers
    numbers = [paper["url"].rpartition("/")[2] for paper in codemeta["referencePublication"]]
    assert [other["identifier"] for other in zenodo["related_identifiers"]] == [f"arXiv:{n}" for n in numbers]
    assert zenodo["keywords"] == codemeta["keywords"]


def test_the_draft_has_what_joss_asks_for():
    head, text = (ROOT / "paper/paper.md").read_text().split("---\n", 2)[1:]
    about = yaml.safe_load(head)
    assert [author["name"] for author in about["authors"]] == [author["name"] for author in CITATION["authors"]]
    assert about["title"].startswith(f"{CITATION['title']}: ") and (ROOT / "paper" / about["bibliography"]).exists()
    assert re.findall("^# (.+)$", text, re.MULTILINE) == [
        "Summary",
        "Statement of need",
        "State of the field",
        "Software design",
        "Research impact statement",
        "AI usage disclosure",
        "Acknowledgements",
        "References",
    ]
    assert 750 <= len(text.split()) <= 1000
    entries = re.findall(r"^@\w+\{(\w+),", (ROOT / "paper/paper.bib").read_text(), re.MULTILINE)
    assert set(re.findall(r"@(\w+)", text)) == set(entries) and len(set(entries)) == len(entries)


def test_the_checklist_has_an_answer_to_each_item():
    """A file, `no` or `none`, or words; that each file is there is tested with all links (test_texts.py)."""
    text = (ROOT / "docs/checklist.md").read_text()
    rows = dict(re.findall(r"^\| (.+?) \| (.+) \|$", text, re.MULTILINE))
    assert len(rows) > 45 and all(rows.values())
    without_file = [item for item, answer in rows.items() if "](" not in answer and not re.match("no|none", answer)]
    assert set(without_file) == {"item", "A1 retrieved by an open protocol"}
    named = re.findall(r"\]\(([^)#]+)", text)
    assert len(named) > 50 and all((ROOT / "docs" / name).exists() for name in named)


def test_the_checklist_says_whether_weights_are_published():
    (answer,) = re.findall(
        r"^\| pre-trained models \| (.+) \|$", (ROOT / "docs/checklist.md").read_text(), re.MULTILINE
    )
    assert answer.startswith("no") != any(PUBLISHED.rglob(WEIGHTS))
