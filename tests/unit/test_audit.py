"""The comparison of two servers' facts names everything that differs, and nothing else."""

from __future__ import annotations

from tests.lab.audit import Report, differences, table


def test_equal_facts_have_no_differences() -> None:
    facts = {"users": {"admin": ["sudo"]}, "sshd": ["permitrootlogin no"], "umask": "027"}
    assert differences(facts, dict(facts)) == []


def test_each_difference_is_named_with_its_place() -> None:
    one = {"users": {"admin": {"groups": ["admin", "docker"]}}, "kernel": {"a": "1"}, "packages": ["curl", "tmux"]}
    other = {"users": {"admin": {"groups": ["admin"]}}, "kernel": {"a": "2", "b": "1"}, "packages": ["curl", "jq"]}
    assert differences(one, other) == [
        "kernel: a: '1' and '2'",
        "kernel: b: None and '1'",
        "packages: only the first has tmux",
        "packages: only the second has jq",
        "users: admin: groups: only the first has docker",
    ]


def test_a_report_marks_what_is_not_as_wanted() -> None:
    report = Report()
    report.add("nmap", "open ports", "80/tcp", "80/tcp")
    report.add("nmap", "open ports", "80/tcp", "80/tcp, 5432/tcp")
    assert [row.seen for row in report.bad] == ["80/tcp, 5432/tcp"]
    assert table(report).count("**no**") == 1
