"""The tools of the build: what counts as passed, and what is installed."""

import json
import re
import sys
from pathlib import Path

from packaging.requirements import Requirement
from twisted.trial.unittest import SynchronousTestCase

from tools import check_docs, deps, parts, pythons, trial_result

SKIPS = """
===============================================================================
[SKIPPED]
part missing: anvil (make parts)

tests.integration.test_a.ATests.test_one
tests.integration.test_a.ATests.test_two
===============================================================================
[SKIPPED]
needs root

tests.test_b.BTests.test_three
-------------------------------------------------------------------------------
Ran 10 tests in 0.1s

{closing}
"""


class TrialResultTests(SynchronousTestCase):
    def test_passed(self) -> None:
        """A run in which all passed counts each test."""
        self.assertEqual(trial_result.count("Ran 3 tests in 0.1s\n\nPASSED (successes=3)\n"), (3, 0, 0))

    def test_failed(self) -> None:
        """Failures, errors and unexpected successes count as failed."""
        closing = "FAILED (failures=1, errors=2, unexpectedSuccesses=1, expectedFailures=1, successes=4)"
        self.assertEqual(trial_result.count(closing), (5, 4, 0))

    def test_missing_parts(self) -> None:
        """A skip for want of a part counts as failed, each test of it; another skip does not count."""
        output = SKIPS.format(closing="PASSED (skips=3, successes=7)")
        self.assertEqual(trial_result.count(output), (7, 2, 1))

    def test_broken_off(self) -> None:
        """A run without a closing line has failed."""
        self.assertEqual(trial_result.count("tests.test_a\n  ATests\n    test_one ..."), (0, 1, 0))

    def test_the_last_line_counts(self) -> None:
        """Words of a test that look like a closing line do not deceive."""
        self.assertEqual(trial_result.count("PASSED (successes=99)\nFAILED (errors=1)\n"), (0, 1, 0))


class DepsTests(SynchronousTestCase):
    SOURCE = """setup(install_requires=["a >= 1.2", "b[x] >= 3; y"], extras_require={"test": ["c >= 4"]})"""

    def test_extras(self) -> None:
        """The requirements are those of the package and of the extras that are asked for."""
        self.assertEqual(deps.requirements(["test"], source=self.SOURCE), ["a >= 1.2", "b[x] >= 3; y", "c >= 4"])
        self.assertRaises(KeyError, deps.requirements, ["docs"], source=self.SOURCE)

    def test_lowest(self) -> None:
        """The lowest versions are the lower bounds of what the package needs."""
        self.assertEqual(deps.requirements([], lowest=True, source=self.SOURCE), ["a ==1.2", "b[x] ==3; y"])

    def test_without(self) -> None:
        """Constraints give way to requirements that say their own version, however the name is written."""
        constraints = "a-b==1\nc==2 ; sys_platform == 'win32'\n# d==4\nabc==5\n"
        self.assertEqual(deps.without(constraints, ["A_b[x] >= 1", "c"]), "# d==4\nabc==5\n")

    def test_settled(self) -> None:
        """Whatever setup.py asks for has one exact version in the constraints, within its range; so have the parts."""
        wanted = deps.requirements(["test", "lint", "build"])
        exact = {deps.name_of(line): line for line in deps.CONSTRAINTS.read_text().splitlines() if "==" in line}
        for requirement in map(Requirement, wanted):
            settled = Requirement(exact[deps.name_of(requirement.name)])
            [version] = settled.specifier
            self.assertEqual(version.operator, "==")
            self.assertIn(version.version, requirement.specifier)
        locked = json.loads(parts.MANIFEST.with_name("package-lock.json").read_text())["packages"]
        named = json.loads(parts.MANIFEST.read_text())["dependencies"]
        self.assertEqual({name: locked[f"node_modules/{name}"]["version"] for name in named}, named)

    def test_names_no_index(self) -> None:
        """Where packages come from is the machine's matter: neither file says it."""
        self.assertNotIn("://", deps.CONSTRAINTS.read_text())
        self.assertNotIn('"resolved"', parts.MANIFEST.with_name("package-lock.json").read_text())

    def test_own(self) -> None:
        """The project's own setup.py can be read, its extras for tests and lint included."""
        wanted = deps.requirements(["test", "lint"])
        self.assertTrue(any(r.startswith("twisted") for r in wanted))
        self.assertTrue(any(r.startswith("ruff") for r in wanted))


class PythonsTests(SynchronousTestCase):
    def test_this_one(self) -> None:
        """The Python that runs the tests is found by its version; one that nobody made is not."""
        version = "{}.{}".format(*sys.version_info[:2])
        self.patch(pythons, "candidates", lambda wanted: iter(["/no/such/python", sys.executable]))
        self.assertEqual(pythons.find(version), sys.executable)
        self.assertIsNone(pythons.find("2.7"))

    def test_supported(self) -> None:
        """What is tried is what setup.py says is supported."""
        said = re.findall(r"Programming Language :: Python :: (3\.\d+)", deps.SETUP.read_text())
        self.assertEqual(tuple(said), pythons.SUPPORTED)


class CheckDocsTests(SynchronousTestCase):
    def faults(self, text: str) -> int:
        page = Path(self.mktemp() + ".md")
        page.write_text(text)
        return len([*check_docs.link_faults(page, text), *check_docs.example_faults(text)])

    def test_links(self) -> None:
        """A link to a file or a heading that is not there is found, in prose only."""
        self.assertEqual(self.faults("[a](gone.md) [b](#no) [c](https://x.test/) `[d](e.md)`"), 2)
        self.assertEqual(self.faults("# The `one` Way\n[a](#the-one-way)\n"), 0)

    def test_examples(self) -> None:
        """An example that cannot be read is found, unless it is a fragment or says that it is wrong."""
        self.assertEqual(self.faults("```json\n{\n```\n```yaml\na: [\n```\n"), 2)
        self.assertEqual(self.faults("```yaml wrong\na: [\n```\n```json\n{...\n```\n"), 0)

    def test_configurations(self) -> None:
        """A whole configuration that evmlb would refuse is found."""
        self.assertEqual(self.faults("```yaml\nnetworks:\n  - nome: x\n```\n"), 1)
